// The broadcast server of ws's own documentation. POST /publish: what comes in goes to every client, stringified once.
const http = require('http');
const { WebSocket, WebSocketServer } = require('ws');

const server = http.createServer((request, response) => {
  if (request.method !== 'POST') { response.writeHead(404).end(); return; }
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const event = JSON.parse(Buffer.concat(pieces).toString());
    const text = JSON.stringify(event);
    for (const client of sockets.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(text);
    }
    response.writeHead(201, { 'Content-Length': '2' }).end('{}');
  });
});
const sockets = new WebSocketServer({ server, path: '/events', perMessageDeflate: false });
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 });

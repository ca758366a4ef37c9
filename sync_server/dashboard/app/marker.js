/** How the map draws what moves on it (map.js). */

const NAME_PX = 15; // from the middle of a marker to its name
const LINE_PX = 14;

/** An arrow where it goes, a dot where that is not known. */
export function paintMarker(context, [x, y], { heading, kind }, colours, edge, size = 1) {
  context.save();
  context.translate(x, y);
  context.scale(size, size);
  context.beginPath();
  if (heading === undefined) context.arc(0, 0, 6, 0, 2 * Math.PI);
  else {
    context.rotate((heading * Math.PI) / 180);
    context.moveTo(0, -10);
    context.lineTo(7, 8);
    context.lineTo(0, 4.5);
    context.lineTo(-7, 8);
    context.closePath();
  }
  context.fillStyle = colours[kind];
  context.strokeStyle = edge;
  context.lineWidth = 2;
  context.stroke();
  context.fill();
  context.restore();
}

/** The name of a marker in a box above it. */
export function paintLabel(context, [x, y], label, { ink, back, line }) {
  const { width } = context.measureText(label);
  context.fillStyle = back;
  context.strokeStyle = line;
  context.beginPath();
  context.roundRect(x - width / 2 - 8, y - 44, width + 16, 24, 6);
  context.fill();
  context.stroke();
  context.fillStyle = ink;
  context.textAlign = 'center';
  context.fillText(label, x, y - 28);
  context.textAlign = 'start';
}

/** Names beside their markers, `{at, label}`, as far as there is room: none of them over another. Gives how many. */
export function paintNames(context, names, { ink, back }) {
  const taken = [];
  context.save();
  context.font = `600 ${context.font}`;
  context.fillStyle = ink;
  context.strokeStyle = back;
  context.lineWidth = 3;
  context.lineJoin = 'round';
  for (const { at: [x, y], label } of names) {
    const box = { left: x + NAME_PX, right: x + NAME_PX + context.measureText(label).width, top: y - LINE_PX / 2, bottom: y + LINE_PX / 2 };
    if (taken.some((other) => overlap(box, other))) continue;
    taken.push(box);
    context.strokeText(label, box.left, y + 4); // so that lines beneath do not run through it
    context.fillText(label, box.left, y + 4);
  }
  context.restore();
  return taken.length;
}

const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

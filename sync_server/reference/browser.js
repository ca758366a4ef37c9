// Starts the page: the document of this very server, wherever a proxy may have put it.
"use strict";

window.addEventListener("load", async () => {
  const root = new URL(".", document.baseURI);
  const answer = await fetch(new URL("openapi.json", root));
  const spec = await answer.json();
  spec.servers = [{ url: root.pathname.replace(/\/$/, "") || "/" }];
  window.ui = SwaggerUIBundle({
    spec,
    dom_id: "#reference",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: false,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
  });
});

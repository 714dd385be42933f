"use strict";
// Swagger UI for the document that this page names. Requests go to the page's own host
// and prefix. No validator: it runs on another host.
const element = document.getElementById("api");
const address = new URL(element.dataset.document, location.href);
fetch(`${address}?format=json`)
  .then((response) => response.json())
  .then((spec) => {
    spec.servers = [{ url: new URL("../..", address).href.replace(/\/$/, "") }];
    SwaggerUIBundle({
      domNode: element,
      spec,
      validatorUrl: "none",
      deepLinking: true,
      displayRequestDuration: true,
      tryItOutEnabled: true,
    });
  });

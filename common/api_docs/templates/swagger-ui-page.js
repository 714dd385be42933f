"use strict";
// Swagger UI on the document beside this page. What it sends goes to where the page came
// from, whatever prefix that has. No validator: it would be asked outside.
const place = document.getElementById("api");
const there = new URL(place.dataset.document, location.href);
fetch(`${there}?format=json`)
  .then((found) => found.json())
  .then((spec) => {
    spec.servers = [{ url: new URL("../..", there).href.replace(/\/$/, "") }];
    SwaggerUIBundle({
      domNode: place,
      spec,
      validatorUrl: "none",
      deepLinking: true,
      displayRequestDuration: true,
      tryItOutEnabled: true,
    });
  });

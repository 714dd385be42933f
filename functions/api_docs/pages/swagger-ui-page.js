"use strict";
// Swagger UI on the document beside this page. No validator: it would be asked outside.
const place = document.getElementById("api");
SwaggerUIBundle({
  domNode: place,
  url: new URL(place.dataset.document, location.href).href,
  validatorUrl: "none",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
});

"use strict";
// Swagger UI, without its validator, which runs on another host. A user who has been
// filled in stays; at first it is the local run's, where the page says that this is one.
const style = () =>
  document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", style);
style();
loadDocument().then((spec) => {
  const isKnown = localStorage.getItem("authorized");
  const ui = SwaggerUIBundle({
    domNode: element,
    spec,
    validatorUrl: "none",
    deepLinking: true,
    displayRequestDuration: true,
    persistAuthorization: true,
    tryItOutEnabled: true,
    defaultModelsExpandDepth: 0,
    onComplete() {
      const { user } = element.dataset;
      if (user && !isKnown) ui.preauthorizeApiKey("userId", user);
    },
  });
});

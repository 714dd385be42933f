"use strict";
// ReDoc for the document that this page names, in system fonts.
const element = document.getElementById("api");
const address = new URL(element.dataset.document, location.href);
const text = "system-ui, sans-serif";
const typography = {
  fontFamily: text,
  headings: { fontFamily: text },
  code: { fontFamily: "ui-monospace, monospace" },
};
fetch(`${address}?format=json`)
  .then((response) => response.json())
  .then((spec) => {
    spec.servers = [{ url: new URL("../..", address).href.replace(/\/$/, "") }];
    Redoc.init(spec, { theme: { typography } }, element);
  });

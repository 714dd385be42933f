"use strict";
// ReDoc on the document beside this page, in fonts that every machine has.
const place = document.getElementById("api");
const there = new URL(place.dataset.document, location.href);
const text = "system-ui, sans-serif";
const typography = {
  fontFamily: text,
  headings: { fontFamily: text },
  code: { fontFamily: "ui-monospace, monospace" },
};
fetch(`${there}?format=json`)
  .then((found) => found.json())
  .then((spec) => {
    spec.servers = [{ url: new URL("../..", there).href.replace(/\/$/, "") }];
    Redoc.init(spec, { theme: { typography } }, place);
  });

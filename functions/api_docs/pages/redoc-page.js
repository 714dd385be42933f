"use strict";
// ReDoc on the document beside this page, in fonts that every machine has.
const place = document.getElementById("api");
const text = "system-ui, sans-serif";
Redoc.init(
  new URL(place.dataset.document, location.href).href,
  {
    theme: {
      typography: {
        fontFamily: text,
        headings: { fontFamily: text },
        code: { fontFamily: "ui-monospace, monospace" },
      },
    },
  },
  place,
);

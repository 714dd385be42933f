"use strict";
// ReDoc in system fonts, light or dark.
const text = "system-ui, sans-serif";
const typography = {
  fontFamily: text,
  headings: { fontFamily: text },
  code: { fontFamily: "ui-monospace, monospace" },
};
const light = { typography };
const night = {
  typography: {
    ...typography,
    code: { ...typography.code, color: "#ff9d9d", backgroundColor: "#20262d" },
    links: { color: "#8ab8f5", visited: "#8ab8f5", hover: "#b7d3fa" },
  },
  colors: {
    primary: { main: "#8ab8f5" },
    text: { primary: "#e7eaee", secondary: "#a9b3bf" },
    border: { dark: "#3a424d", light: "#3a424d" },
    gray: { 50: "#20262d", 100: "#20262d" },
    http: { get: "#4a9060", post: "#8ab8f5", patch: "#ffbf6b", delete: "#ff8a80" },
  },
  schema: {
    nestedBackground: "#1b2026",
    linesColor: "#55606e",
    typeNameColor: "#a9b3bf",
    typeTitleColor: "#a9b3bf",
    requireLabelColor: "#ff8a80",
    labelsTextSize: "0.9em",
  },
  sidebar: { backgroundColor: "#1b2026", textColor: "#e7eaee" },
  rightPanel: { backgroundColor: "#0d1013" },
};
function show(spec) {
  // A copy: ReDoc changes what it is given.
  const theme = dark.matches ? night : light;
  Redoc.init(structuredClone(spec), { theme }, element);
}
loadDocument().then((spec) => {
  show(spec);
  dark.addEventListener("change", () => show(spec));
});

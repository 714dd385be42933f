"use strict";
// What both viewers share: the document that the page names, for people to read.
const element = document.getElementById("api");
const address = new URL(element.dataset.document, location.href);
const dark = matchMedia("(prefers-color-scheme: dark)");

function resolved(spec, part) {
  while (part && part.$ref)
    part = part.$ref.slice(2).split("/").reduce((found, step) => found[step], spec);
  return part;
}

// All errors have one shape. In full, each with its examples, they would make every
// operation several screens long; here each is a link to what it means, in the
// description, because ReDoc makes a button of a response's.
function shareErrors(spec) {
  const problems = new URL("../../problems/", address);
  for (const path of Object.values(spec.paths))
    for (const operation of Object.values(path).filter((each) => each.responses)) {
      const { responses, description = "" } = operation;
      const lines = [];
      for (const status of Object.keys(responses).filter((each) => each >= "400")) {
        const { content = {} } = resolved(spec, responses[status]);
        const { examples = {} } = content["application/problem+json"] || {};
        const links = Object.keys(examples).map((n) => `[${n}](${problems}${n}/)`);
        lines.push(`${status === "default" ? "any" : status}: ${links.join(", ")}`);
        delete responses[status];
      }
      const errors = `Errors, all of one shape. ${lines.join("; ")}.`;
      if (lines.length) operation.description = `${description}\n\n${errors}`;
    }
}

// Two statuses of one body, such as 200 and 201 of a checkout, show it once; headers
// are named.
function shortenReplies(spec) {
  for (const path of Object.values(spec.paths))
    for (const { responses } of Object.values(path).filter((each) => each.responses)) {
      const seen = {};
      for (const [status, reference] of Object.entries(responses)) {
        const { headers = {}, ...response } = resolved(spec, reference);
        const body = response.content?.["application/json"];
        const schema = JSON.stringify(body?.schema?.anyOf?.[0] ?? body?.schema);
        const names = Object.keys(headers).map((name) => `\`${name}\``);
        if (names.length)
          response.description += `\n\nHeaders: ${names.join(", ")}`;
        if (schema && seen[schema]) {
          response.description += `\n\nThe body is like that of ${seen[schema]}.`;
          delete response.content;
        } else if (schema) seen[schema] = status;
        responses[status] = response;
      }
    }
}

// Requests go to the page's own host and prefix.
async function loadDocument() {
  const response = await fetch(`${address}?format=json`);
  const spec = await response.json();
  spec.servers = [{ url: new URL("../..", address).href.replace(/\/$/, "") }];
  shareErrors(spec);
  shortenReplies(spec);
  return spec;
}

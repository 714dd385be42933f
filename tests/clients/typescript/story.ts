// What a front end does with types that openapi-typescript has made: order, list, change.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
type Order = components["schemas"]["Order"];
type Problem = components["schemas"]["Problem"];

const [, , url = "", user = "", article = ""] = process.argv;
const api = createClient<paths>({ baseUrl: url, headers: { "X-User-ID": user } });

function given<T>(value: T | undefined, problem: Problem | undefined): T {
  if (value === undefined) throw new Error(problem?.detail ?? "no response");
  return value;
}

const made = await api.POST("/api/orders/", {
  params: { header: { "Idempotency-Key": "made by a test" } },
  body: { items: [{ product_variation: article, quantity: 2 }] },
});
const order: Order = given(made.data, made.error);

const page = await api.GET("/api/orders/", { params: { query: { limit: 1 } } });
const listed: Order[] = given(page.data, page.error);

const changed = await api.PATCH("/api/orders/{id}/", {
  params: {
    path: { id: order.id },
    header: { "If-Match": made.response.headers.get("ETag") ?? "" },
  },
  body: { metadata: { gift: "yes" } },
});
const after: Order = given(changed.data, changed.error);

const refused = await api.POST("/api/orders/", {
  body: { items: [{ product_variation: article, quantity: 0 }] },
});

console.log(
  JSON.stringify({
    id: order.id,
    quantity: order.items[0]?.quantity,
    listed: listed.map((each) => each.id),
    metadata: after.metadata,
    problem: refused.error?.type,
    fields: Object.keys(refused.error?.errors ?? {}),
  }),
);

-- For pgbench: the rows of a checkout of five lines, as five statements of several rows
-- each, in one transaction. Texts are as long as the service's own.
BEGIN;

INSERT INTO orders (user_id, created_at, is_complete, metadata, cart_id)
VALUES (gen_random_uuid(), now(), false, '{}', 42)
RETURNING id \gset

INSERT INTO order_items
  (order_id, user_id, status, quantity, product_variation, product_id, shop_id, price)
VALUES
  (CAST(:id AS bigint), gen_random_uuid(), 1, 2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1999),
  (CAST(:id AS bigint), gen_random_uuid(), 1, 2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1999),
  (CAST(:id AS bigint), gen_random_uuid(), 1, 2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1999),
  (CAST(:id AS bigint), gen_random_uuid(), 1, 2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1999),
  (CAST(:id AS bigint), gen_random_uuid(), 1, 2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1999);

INSERT INTO order_history
  (order_id, kind, item_id, to_status, changed_by, changed_at, request_id, event_id, destinations)
VALUES
  (CAST(:id AS bigint), 'item.created', 1, 1, gen_random_uuid(), now(), repeat('x', 36), gen_random_uuid(), '{rabbitmq}'),
  (CAST(:id AS bigint), 'item.created', 2, 1, gen_random_uuid(), now(), repeat('x', 36), gen_random_uuid(), '{rabbitmq}'),
  (CAST(:id AS bigint), 'item.created', 3, 1, gen_random_uuid(), now(), repeat('x', 36), gen_random_uuid(), '{rabbitmq}'),
  (CAST(:id AS bigint), 'item.created', 4, 1, gen_random_uuid(), now(), repeat('x', 36), gen_random_uuid(), '{rabbitmq}'),
  (CAST(:id AS bigint), 'item.created', 5, 1, gen_random_uuid(), now(), repeat('x', 36), gen_random_uuid(), '{rabbitmq}'),
  (CAST(:id AS bigint), 'order.created', NULL, NULL, gen_random_uuid(), now(), repeat('x', 36), gen_random_uuid(), '{rabbitmq}');

INSERT INTO outbox
  (destination, order_id, event_id, event_type, body, traceparent)
VALUES
  ('rabbitmq', CAST(:id AS bigint), gen_random_uuid(), 'order.item.created', repeat('x', 325), repeat('x', 55)),
  ('rabbitmq', CAST(:id AS bigint), gen_random_uuid(), 'order.item.created', repeat('x', 325), repeat('x', 55)),
  ('rabbitmq', CAST(:id AS bigint), gen_random_uuid(), 'order.item.created', repeat('x', 325), repeat('x', 55)),
  ('rabbitmq', CAST(:id AS bigint), gen_random_uuid(), 'order.item.created', repeat('x', 325), repeat('x', 55)),
  ('rabbitmq', CAST(:id AS bigint), gen_random_uuid(), 'order.item.created', repeat('x', 325), repeat('x', 55)),
  ('rabbitmq', CAST(:id AS bigint), gen_random_uuid(), 'order.created', repeat('x', 540), repeat('x', 55));

INSERT INTO idempotency_records
  (user_id, scope, key, fingerprint, status, headers, body, order_id)
VALUES (
  gen_random_uuid(), 'cart', md5(random()::text) || md5(random()::text), repeat('x', 64), 201,
  '{"ETag": "1", "Location": "/api/orders/1/"}', repeat('x', 1400), CAST(:id AS bigint));

COMMIT;

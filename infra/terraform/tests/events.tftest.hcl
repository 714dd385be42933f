# Pub/Sub: nothing is dropped, and nothing is delivered in vain for ever.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

run "events" {
  command = plan

  variables {
    event_bus = "rabbitmq,pubsub"
  }

  assert {
    condition = alltrue([
      for each in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) :
      try(each.dead_letter_policy[0].dead_letter_topic, null) == google_pubsub_topic.dead_letters[0].id
      if each.topic != google_pubsub_topic.dead_letters[0].id
    ])
    error_message = "Every subscription has a dead letter topic."
  }

  assert {
    condition = alltrue(flatten([
      for each in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) : [
        for policy in each.dead_letter_policy :
        contains([for reader in google_pubsub_subscription.dead_letters : reader.topic], policy.dead_letter_topic)
      ]
    ]))
    error_message = "Every dead letter topic has a subscription: without one, dead letters are dropped."
  }

  assert {
    condition = (
      google_pubsub_topic_iam_member.agent_buries[0].role == "roles/pubsub.publisher"
      && google_pubsub_topic_iam_member.agent_buries[0].topic == google_pubsub_topic.dead_letters[0].name
      && google_pubsub_subscription_iam_member.agent_acknowledges[0].role == "roles/pubsub.subscriber"
      && google_pubsub_subscription_iam_member.agent_acknowledges[0].subscription == google_pubsub_subscription.approvals[0].name
    )
    error_message = "Pub/Sub may move a message to the dead letter topic: publish there, acknowledge here."
  }

  assert {
    condition     = alltrue([for each in google_pubsub_subscription.approvals : try(each.push_config[0].no_wrapper[0].write_metadata, false)])
    error_message = "A push is our own CloudEvent: unwrapped, with metadata."
  }

  assert {
    condition     = alltrue(flatten([for each in google_pubsub_subscription.dead_letters : [for push in each.push_config : length(push.no_wrapper) == 0]]))
    error_message = "Dead letters are pushed wrapped, or pulled: attributes that cannot be headers may be why they are dead."
  }

  assert {
    condition = alltrue(flatten([
      for each in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) : [
        for push in each.push_config :
        try(push.oidc_token[0].service_account_email, null) == google_service_account.push[0].email
        && try(push.oidc_token[0].audience, null) == google_cloud_run_v2_service.function["approval_handler"].uri
      ]
    ]))
    error_message = "A push proves by a token of its own account where it comes from."
  }

  assert {
    condition = alltrue([
      for each in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) :
      try(each.retry_policy[0].minimum_backoff, null) == "10s" && try(each.retry_policy[0].maximum_backoff, null) == "600s"
    ])
    error_message = "A delivery is tried again after 10 seconds, then later and later, up to ten minutes."
  }

  assert {
    condition = alltrue([
      for each in google_pubsub_subscription.approvals : sum([
        for number in range(try(each.dead_letter_policy[0].max_delivery_attempts, 5) - 1) : min(10 * pow(2, number), 600)
      ]) >= 12 * 3600
    ])
    error_message = "A delivery outlasts an outage of half a day before it is a dead letter."
  }

  assert {
    condition     = alltrue([for each in google_pubsub_subscription.approvals : each.enable_message_ordering == true])
    error_message = "An order's events arrive in their order."
  }

  assert {
    condition     = alltrue([for each in google_pubsub_subscription.approvals : each.filter == "attributes.event_type = \"order.item.status.updated\""])
    error_message = "Only what may complete an order is delivered."
  }

  assert {
    condition = alltrue([
      for each in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) :
      try(each.expiration_policy[0].ttl, null) == ""
    ])
    error_message = "A subscription never expires."
  }

  assert {
    condition = alltrue([
      for each in concat(google_pubsub_subscription.approvals, google_pubsub_subscription.dead_letters) :
      each.ack_deadline_seconds >= tonumber(trimsuffix(google_cloud_run_v2_service.function["approval_handler"].template[0].timeout, "s"))
    ])
    error_message = "The handler has at least as long to acknowledge as it may take to answer."
  }
}

//! The attribute names we use, in one place because the messaging ones are still in development.
//!
//! Source: OpenTelemetry semantic conventions 1.44, <https://opentelemetry.io/docs/specs/semconv/>.

/// The broker: always `nats`.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// What is done, `publish`, `process`, `settle`.
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// What kind of thing that is: `create`, `send`, `receive`, `process`, `settle`.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The NATS subject.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
/// The durable consumer.
pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";
/// The event id, equal on both sides.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
/// The order id.
pub const MESSAGING_CONVERSATION_ID: &str = "messaging.message.conversation_id";
/// How many messages one operation moved.
pub const MESSAGING_BATCH_COUNT: &str = "messaging.batch.message_count";
/// How often the broker has delivered this message, from 1.
pub const MESSAGING_DELIVERY_COUNT: &str = "shop.message.delivery_count";
/// The CloudEvents type, `shop.order.OrderPlaced.v1`.
pub const CLOUDEVENTS_EVENT_TYPE: &str = "cloudevents.event_type";
/// The order that a span is about.
pub const SHOP_ORDER_ID: &str = "shop.order.id";
/// The request method.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// The route's template, never the path.
pub const HTTP_ROUTE: &str = "http.route";
/// The answer's status.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// Who is asked.
pub const SERVER_ADDRESS: &str = "server.address";
/// `idle` or `used`.
pub const DB_CONNECTION_STATE: &str = "db.client.connection.state";
/// A failure in one of a few words.
pub const ERROR_TYPE: &str = "error.type";

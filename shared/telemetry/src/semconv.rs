//! The attribute names we use, in one place because the messaging ones are still in development.
//!
//! Source: OpenTelemetry semantic conventions 1.44, <https://opentelemetry.io/docs/specs/semconv/>.

/// The name of the service.
pub const SERVICE_NAME: &str = "service.name";
/// The release that runs.
pub const SERVICE_VERSION: &str = "service.version";
/// Which of its replicas, anew with each start.
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
/// `development`, unless the environment says otherwise.
pub const DEPLOYMENT_ENVIRONMENT_NAME: &str = "deployment.environment.name";
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
/// The event id, as CloudEvents calls it.
pub const CLOUDEVENTS_EVENT_ID: &str = "cloudevents.event_id";
/// Who tells it, `/shop/order`.
pub const CLOUDEVENTS_EVENT_SOURCE: &str = "cloudevents.event_source";
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
/// The database: always `postgresql`.
pub const DB_SYSTEM_NAME: &str = "db.system.name";
/// The database's name.
pub const DB_NAMESPACE: &str = "db.namespace";
/// What it is asked to do.
pub const DB_OPERATION_NAME: &str = "db.operation.name";
/// How many decisions one transaction commits, when it is more than one.
pub const DB_OPERATION_BATCH_SIZE: &str = "db.operation.batch.size";
/// Who is asked.
pub const SERVER_ADDRESS: &str = "server.address";
/// At which port.
pub const SERVER_PORT: &str = "server.port";
/// `idle` or `used`.
pub const DB_CONNECTION_STATE: &str = "db.client.connection.state";
/// A failure in one of a few words.
pub const ERROR_TYPE: &str = "error.type";

//! What every service stands on: configuration, the HTTP surface, health, and an orderly end.

pub mod admin;
mod api_error;
pub mod client;
mod config;
mod etag;
mod extract;
mod http;
mod page;
mod service;

pub use api_error::{ApiError, FieldError};
pub use config::{Config, from_env};
pub use etag::ETag;
pub use extract::{IdempotencyKey, Json, Path, Query};
pub use http::surface;
pub use page::{Page, PageRequest};
pub use service::Service;

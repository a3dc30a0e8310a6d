//! What every service stands on: configuration, the HTTP surface, health, and an orderly end.

pub mod admin;
pub mod admission;
mod api_error;
mod breaker;
pub mod client;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod durations;
mod etag;
mod extract;
mod health;
mod http;
mod in_flight;
mod measures;
pub mod openapi;
mod page;
mod probe;
pub mod problems;
pub mod serve;
mod service;

pub use api_error::{ApiError, FieldError};
pub use breaker::Breaker;
pub use config::{Config, from_env};
pub use etag::{ETag, MovingETag};
pub use extract::{IdempotencyKey, Json, Path, Query};
pub use http::{surface, surface_within};
pub use in_flight::{Claim, InFlight};
pub use page::{Page, PageRequest};
pub use service::Service;

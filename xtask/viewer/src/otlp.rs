//! Spans in: the OTLP/gRPC trace service.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Request, Response, Status};

use crate::record::{Origin, Record, span_id, text, trace_id};
use crate::store::Store;

/// A batch of many long spans passes the 4 MiB that tonic allows unasked.
const LARGEST_BATCH: usize = 64 << 20;

struct Receiver(Arc<Store>);

/// Receives until told to stop.
pub(crate) async fn serve(listener: TcpListener, store: Arc<Store>, stop: CancellationToken) {
    let service = TraceServiceServer::new(Receiver(store)).max_decoding_message_size(LARGEST_BATCH);
    let served = Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        eprintln!("the OTLP receiver stopped: {error}");
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut records = Vec::new();
        let mut rejected = 0;
        for sent in request.into_inner().resource_spans {
            rejected += unpack(sent, &mut records);
        }
        self.0.insert(records);
        let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "a span needs a trace id and a span id".into(),
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// Appends the valid spans and returns the number of the others.
fn unpack(sent: ResourceSpans, records: &mut Vec<Record>) -> i64 {
    let origin = Arc::new(origin(
        sent.resource.map(|resource| resource.attributes).unwrap_or_default(),
    ));
    let mut rejected = 0;
    for group in sent.scope_spans {
        let scope = Arc::new(group.scope.unwrap_or_default());
        for span in group.spans {
            match (trace_id(&span.trace_id), span_id(&span.span_id)) {
                (Some(trace_id), Some(span_id)) => {
                    records.push(Record {
                        trace_id,
                        span_id,
                        origin: origin.clone(),
                        scope: scope.clone(),
                        span,
                    });
                }
                _ => rejected += 1,
            }
        }
    }
    rejected
}

fn origin(mut attributes: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> Origin {
    let name = attributes
        .iter()
        .position(|pair| pair.key == "service.name")
        .map(|at| attributes.remove(at));
    let service = name.map_or_else(|| "unknown_service".to_owned(), |pair| text(&pair.value));
    Origin { service, attributes }
}

//! The client of the collector, in the protocol that was asked for. It connects when it first exports.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::SpanExporter as _;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::resolver::{ResolveError, Resolver};
use crate::telemetry::settings::{Compression, Export, Protocol};

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExporterError {
    /// gRPC cannot be spoken to such an address.
    #[error(transparent)]
    Endpoint(#[from] tonic::transport::Error),
    /// Anything else that was asked for cannot be.
    #[error(transparent)]
    Build(#[from] ExporterBuildError),
}

/// Makes the client.
pub(super) fn build(export: &Export) -> Result<SpanExporter, ExporterError> {
    let mut exporter = match export.protocol {
        Protocol::Grpc => grpc(export)?,
        Protocol::HttpProtobuf => http(export)?,
    };
    let attributes = export.resource.iter();
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

fn grpc(export: &Export) -> Result<SpanExporter, ExporterError> {
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel(export)?)
        .with_timeout(export.timeout)
        .with_metadata(MetadataMap::from_headers(export.headers.clone()));
    if export.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    Ok(builder.build()?)
}

fn channel(export: &Export) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(export.endpoint.clone())?.timeout(export.timeout);
    Ok(endpoint.connect_with_connector_lazy(connector(export)))
}

fn http(export: &Export) -> Result<SpanExporter, ExporterError> {
    let headers = export.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let client = HyperClient::new(connector(export), export.timeout, None);
    let mut builder = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(&export.endpoint)
        .with_timeout(export.timeout)
        .with_headers(headers.collect());
    if export.compression == Compression::Gzip {
        builder = builder.with_compression(opentelemetry_otlp::Compression::Gzip);
    }
    Ok(builder.build()?)
}

/// Connects to the collector. Its name is resolved by our own resolver: hyper's default is the C library's, which needs
/// plug-ins that a static binary cannot load.
fn connector(export: &Export) -> HttpConnector<Lookups> {
    let mut connector = HttpConnector::new_with_resolver(Lookups::default());
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(export.timeout));
    connector
}

/// Our resolver as hyper asks it.
#[derive(Debug, Clone, Default)]
struct Lookups(Arc<Resolver>);

impl Service<Name> for Lookups {
    /// Their port is set by the connector.
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            let addrs: Vec<_> = found.into_iter().map(|ip| (ip, 0).into()).collect();
            Ok(addrs.into_iter())
        })
    }
}

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Settings, Vec<SettingError>> {
    let get = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::from_env(get, "shop")
}

fn export(variables: &[(&str, &str)]) -> Export {
    read(variables).unwrap().export.unwrap()
}

#[test]
fn without_an_endpoint_nothing_is_exported() {
    assert_eq!(read(&[]).unwrap(), Settings::default());
    let disabled = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_SDK_DISABLED", "TRUE"),
    ];
    assert_eq!(read(&disabled).unwrap().export, None);
    let none = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ];
    assert_eq!(read(&none).unwrap().export, None);
    assert_eq!(
        read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")])
            .unwrap()
            .export,
        None
    );
}

#[test]
fn the_port_chooses_the_protocol_unless_it_is_named() {
    let general = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let grpc = export(&[(general, "http://collector:4317")]);
    assert_eq!(grpc.protocol, Protocol::Grpc);
    assert_eq!(grpc.endpoint, "http://collector:4317");
    let http = export(&[(general, "http://collector:4318/")]);
    assert_eq!(http.protocol, Protocol::HttpProtobuf);
    assert_eq!(http.endpoint, "http://collector:4318/v1/traces");
    let named = export(&[
        (general, "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ]);
    assert_eq!(named.protocol, Protocol::HttpProtobuf);
}

#[test]
fn the_signals_own_variables_win_and_its_endpoint_is_used_as_it_is() {
    let export = export(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://wrong:4317"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://right:9/custom",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "7"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=wrong"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "Authorization=Basic%20x, b = 2",
        ),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ]);
    assert_eq!(export.endpoint, "http://right:9/custom");
    assert_eq!(export.timeout, Duration::from_millis(7));
    assert_eq!(export.headers["authorization"], "Basic x");
    assert_eq!(export.headers["b"], "2");
    assert_eq!(export.compression, Compression::Gzip);
    assert!(!format!("{export:?}").contains("Basic"));
}

#[test]
fn the_service_is_named_by_its_own_variable_then_by_the_resource_then_by_the_workload() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    let name = |variables: &[(&str, &str)]| {
        let resource = export(variables).resource;
        let names = resource
            .into_iter()
            .filter(|(key, _)| key == "service.name");
        names.map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(name(&[endpoint]), ["shop"]);
    let resource = (
        "OTEL_RESOURCE_ATTRIBUTES",
        "service.name=pay%20ments,k8s.pod.name=p-1",
    );
    assert_eq!(name(&[endpoint, resource]), ["pay ments"]);
    let own = ("OTEL_SERVICE_NAME", "checkout");
    assert_eq!(name(&[endpoint, resource, own]), ["checkout"]);
    assert!(
        export(&[endpoint, resource])
            .resource
            .contains(&("k8s.pod.name".to_owned(), "p-1".to_owned()))
    );
}

#[test]
fn samplers_are_named_as_opentelemetry_names_them() {
    let sampler = |variables: &[(&str, &str)]| read(variables).unwrap().sampler;
    let ratio = |share| Sampler {
        parent: Parent::Obeyed,
        root: Root::Ratio(share),
    };
    assert_eq!(sampler(&[]), ratio(0.01));
    assert_eq!(sampler(&[("OTEL_TRACES_SAMPLER_ARG", "0.5")]), ratio(0.5));
    let named = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    assert_eq!(sampler(&[named]), ratio(1.0));
    let on = sampler(&[("OTEL_TRACES_SAMPLER", "always_on")]);
    assert_eq!((on.parent, on.root), (Parent::Ignored, Root::On));
}

#[test]
fn every_mistake_is_reported_at_once_with_variable_value_and_expectation() {
    let errors = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_RESOURCE_ATTRIBUTES", "novalue"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "101"),
    ])
    .unwrap_err();
    let text: Vec<_> = errors.iter().map(SettingError::to_string).collect();
    expect_test::expect![[r"
        OTEL_TRACES_SAMPLER_ARG=NaN: expected a ratio from 0 to 1
        OTEL_TRACES_SAMPLER=sometimes: expected always_on, always_off, traceidratio, or one of them with parentbased_ before it
        OTEL_SDK_DISABLED=yes: expected true or false
        OTEL_TRACES_EXPORTER=zipkin: expected otlp or none
        OTEL_EXPORTER_OTLP_PROTOCOL=http/json: expected grpc or http/protobuf
        OTEL_EXPORTER_OTLP_ENDPOINT=https://collector:4317: expected an http:// URL (TLS to the collector is not supported: send to a collector on the node or in the pod)
        OTEL_EXPORTER_OTLP_HEADERS=(hidden): expected name=value pairs with commas between them
        OTEL_EXPORTER_OTLP_COMPRESSION=zstd: expected gzip or none
        OTEL_EXPORTER_OTLP_TIMEOUT=10s: expected milliseconds from 1 to 3600000
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE=101: expected at most OTEL_BSP_MAX_QUEUE_SIZE
        OTEL_BSP_SCHEDULE_DELAY=-1: expected milliseconds from 1 to 3600000
        OTEL_BSP_EXPORT_TIMEOUT=0: expected milliseconds from 1 to 3600000
        OTEL_RESOURCE_ATTRIBUTES=novalue: expected key=value pairs with commas between them
    "]]
    .assert_eq(&(text.join("\n") + "\n"));
}

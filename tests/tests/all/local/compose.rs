//! The compose file is valid, complete, pinned and local, and agrees with the product and its tests.

use std::collections::{BTreeMap, BTreeSet};

use bespeak::config::{Config, SETTINGS, Values, unknown_variables};
use bespeak_services::{Aws, Kafka};
use serde_json::Value;

use super::{path, text, yaml};

const FILE: &str = "compose.yaml";

fn services() -> BTreeMap<String, Value> {
    serde_json::from_value(yaml(FILE)["services"].take()).expect("services by name")
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The variables of `settings.env`.
fn settings() -> BTreeMap<String, String> {
    let text = text("settings.env");
    let lines = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

#[test]
fn the_compose_file_is_valid() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../fixtures/compose-spec/schema.json")).expect("JSON");
    // The formats of the specification are not those of JSON Schema: a duration is `2s`.
    let schema = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft7)
        .should_validate_formats(false)
        .build(&schema)
        .expect("a schema");
    let mut compose = yaml(FILE);
    let errors: Vec<_> = schema.iter_errors(&compose).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // The schema rejects an unknown field.
    compose["services"]["redis"]["imag"] = "redis".into();
    assert!(!schema.is_valid(&compose));
}

#[test]
fn services_are_pinned_and_have_health_checks() {
    for (name, service) in services() {
        let image = service["image"].as_str().expect("an image");
        let (_, tag) = image.split_once(':').unwrap_or_else(|| panic!("{name}: {image} has no tag"));
        let numbers = tag.trim_start_matches('v').split('.').filter(|part| part.parse::<u32>().is_ok());
        assert_eq!(numbers.count(), 3, "{name}: {tag} is not an exact version");
        let check = &service["healthcheck"];
        assert!(!strings(&check["test"]).is_empty(), "{name} has no health check");
        assert!(check["interval"].is_string() && check["retries"].is_u64(), "{name}: {check}");
    }
    let names: BTreeSet<_> = services().into_keys().collect();
    assert_eq!(
        names,
        ["grafana", "kafka", "localstack", "mysql", "prometheus", "redis"].map(str::to_owned).into()
    );
}

#[test]
fn services_listen_only_on_loopback() {
    for (name, service) in services() {
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to the network");
        }
        assert!(service["ports"].as_array().is_none_or(|ports| ports.iter().all(Value::is_string)));
        if service["network_mode"] == "host" {
            let options = format!("{} {}", service["command"], service["environment"]);
            let listens = ["--web.listen-address=127.0.0.1:", "\"GF_SERVER_HTTP_ADDR\":\"127.0.0.1\""];
            assert!(listens.iter().any(|option| options.contains(option)), "{name} listens everywhere");
        } else {
            assert!(service.get("network_mode").is_none(), "{name}");
        }
    }
}

#[test]
fn mounted_files_exist_and_all_files_are_mounted() {
    let mut mounted = BTreeSet::new();
    for (name, service) in services() {
        for volume in strings(&service["volumes"]) {
            let (from, to) = volume.split_once(':').expect("a place in the container");
            assert!(to.ends_with(":ro") && to.starts_with('/'), "{name}: {volume} must be read-only");
            assert!(path(from).exists(), "{name}: there is no {from}");
            mounted.insert(from.trim_start_matches("./").to_owned());
        }
    }
    // A file that is not mounted would have no effect.
    for file in [
        "aws/queues.json",
        "aws/queues.py",
        "grafana/dashboards",
        "grafana/provisioning/dashboards",
        "grafana/provisioning/datasources",
        "kafka/topics.sh",
        "prometheus/prometheus.yaml",
        "prometheus/rules.yaml",
    ] {
        assert!(mounted.contains(file), "{file} is not mounted");
    }
}

#[test]
fn topics_match_the_defaults_of_serve() {
    let default = |name| SETTINGS.iter().find(|setting| setting.name == name).expect("a setting").default;
    let made = text("kafka/topics.sh");
    let made: Vec<_> = made.lines().filter_map(|line| line.strip_prefix("topic ")).collect();
    let partitions = default("BESPEAK_EVENTS_PARTITIONS");
    assert_eq!(made, [format!("bespeak.events {partitions}"), "bespeak.events.dlq 1".to_owned()]);
    // The health check waits for the last one to be created.
    assert!(services()["kafka"]["healthcheck"]["test"].to_string().contains("--topic=bespeak.events.dlq\""));
    assert!(settings()["BESPEAK_EVENTS_URL"].ends_with("/bespeak.events"));
}

#[test]
fn queues_match_the_template() {
    let described: Vec<Value> = serde_json::from_str(&text("aws/queues.json")).expect("JSON");
    let names: Vec<_> = described.iter().filter_map(|queue| queue["name"].as_str()).collect();
    assert_eq!(names, ["bespeak-consumer-dlq", "bespeak-consumer"]);
    // The queues are those of the stack on AWS.
    let stack = crate::deploy::yaml::documents("template.yaml").remove(0);
    let on_aws = &stack["Resources"]["ConsumerQueue"]["Properties"];
    for (name, value) in described[1]["attributes"].as_object().expect("attributes") {
        assert_eq!(value.as_str(), Some(on_aws[name].to_string().as_str()), "{name}");
    }
    assert_eq!(described[1]["redrive"]["maxReceiveCount"], on_aws["RedrivePolicy"]["maxReceiveCount"]);
    // The health check waits for the last one to be created.
    let check = services()["localstack"]["healthcheck"]["test"].clone();
    assert_eq!(strings(&check).last(), names.last());
}

#[test]
fn image_versions_match_the_tested_versions() {
    let services = services();
    assert_eq!(services["kafka"]["image"], Kafka::IMAGE);
    assert_eq!(services["localstack"]["image"], Aws::IMAGE);
    assert_eq!(services["localstack"]["environment"]["AWS_DEFAULT_REGION"], Aws::REGION);
}

#[test]
fn settings_are_valid_and_address_these_services() {
    let settings = settings();
    let ours = settings.keys().map(String::as_str);
    assert_eq!(unknown_variables(ours), []);
    let values = Values::collect(|asked| settings.get(asked).cloned(), |_| None);
    let config = Config::parse(&values).expect("valid settings");
    let services = services();
    let published: BTreeSet<_> = services
        .values()
        .flat_map(|service| strings(&service["ports"]))
        .filter_map(|port| port.rsplit_once(':').map(|(outside, _)| outside.to_owned()))
        .collect();
    for (name, value) in &settings {
        let Some((_, place)) = value.split_once("//") else { continue };
        let place = place.rsplit('@').next().unwrap_or_default().split('/').next().unwrap_or_default();
        assert!(published.contains(place), "{name}: nothing listens on {place}: {published:?}");
    }
    // Prometheus scrapes the address of `serve`, and Grafana queries Prometheus.
    let prometheus = yaml("prometheus/prometheus.yaml");
    let target = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0];
    assert_eq!(target.as_str(), Some(config.listen.to_string().as_str()));
    let source = yaml("grafana/provisioning/datasources/prometheus.yaml");
    let listens = services["prometheus"]["command"].to_string();
    let url = source["datasources"][0]["url"].as_str().expect("a URL");
    assert!(listens.contains(&url.replace("http://", "--web.listen-address=")), "{listens} {url}");
}

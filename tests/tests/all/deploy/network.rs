//! Checks the NetworkPolicies for Kubernetes, and the CronJob that audits.
//!
//! The policies are additive: one forbids every connection, and each of the others allows some. These tests read the
//! manifests; no cluster enforces them here.

use serde_json::Value;

use super::{stack::plain, text, yaml};

/// Private and local ranges, which no webhook may reach; the metadata services of clouds are in the third.
const FORBIDDEN: [&str; 5] =
    ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];

fn objects(file: &str) -> Vec<Value> {
    yaml::documents(&format!("deploy/kubernetes/{file}"))
}

fn deployments() -> Vec<Value> {
    let all = ["api.yaml", "events.yaml"].into_iter().flat_map(objects);
    all.filter(|object| object["kind"] == "Deployment").collect()
}

/// The labels of the pods of each workload, by the workload's name.
fn pods() -> Vec<(String, Value)> {
    let templates = deployments().into_iter().chain(objects("migrate/job.yaml")).map(|workload| {
        (plain(&workload["metadata"]["name"]), workload["spec"]["template"]["metadata"]["labels"].clone())
    });
    let audits = objects("verify/cronjob.yaml").into_iter().map(|cron_job| {
        let pod = &cron_job["spec"]["jobTemplate"]["spec"]["template"];
        (plain(&cron_job["metadata"]["name"]), pod["metadata"]["labels"].clone())
    });
    templates.chain(audits).collect()
}

/// Whether a selector of these manifests selects pods with these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let among = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.clone().all(|(name, value)| &labels[name] == value)
        && among.clone().all(|expression| {
            assert_eq!(expression["operator"], "In", "{expression}");
            let values = expression["values"].as_array().expect("values");
            values.contains(&labels[plain(&expression["key"])])
        })
        && equal.count() + among.count() > 0
}

/// The names of the workloads whose pods a policy selects.
fn selected(policy: &Value) -> Vec<String> {
    let pods = pods().into_iter().filter(|(_, labels)| selects(&policy["spec"]["podSelector"], labels));
    pods.map(|(name, _)| name).collect()
}

fn policy(name: &str) -> Value {
    let found = objects("network.yaml").into_iter().find(|policy| policy["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no NetworkPolicy {name}"))
}

/// The peers to which a policy allows connections.
fn peers(policy: &Value) -> Vec<Value> {
    let rules = policy["spec"]["egress"].as_array().into_iter().flatten();
    rules.flat_map(|rule| rule["to"].as_array().expect("a rule names its peers").clone()).collect()
}

#[test]
fn every_pod_is_isolated_in_both_directions() {
    let everything = policy("bespeak");
    assert_eq!(everything["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    assert!(everything["spec"]["ingress"].is_null() && everything["spec"]["egress"].is_null());
    let names: Vec<_> = pods().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["bespeak-api", "bespeak-events", "bespeak-migrate", "bespeak-verify"]);
    assert_eq!(selected(&everything), names);
    assert_eq!(selected(&policy("bespeak-database")), names, "every process needs its database");
    assert_eq!(selected(&policy("bespeak-dns")), names);
}

#[test]
fn only_processes_that_deliver_webhooks_reach_public_addresses_and_nothing_else_by_that_policy() {
    for policy in objects("network.yaml") {
        let name = plain(&policy["metadata"]["name"]);
        let public = peers(&policy).iter().any(|peer| {
            let cidr = peer["ipBlock"]["cidr"].as_str().unwrap_or_default();
            let (_, bits) = cidr.split_once('/').unwrap_or(("", "32"));
            bits.parse::<u8>().expect("a prefix length") < 8
        });
        assert_eq!(public, name == "bespeak-webhooks", "{name}");
    }
    let webhooks = policy("bespeak-webhooks");
    for peer in peers(&webhooks) {
        let excepted = peer["ipBlock"]["except"].as_array().expect("exceptions");
        if peer["ipBlock"]["cidr"] == "0.0.0.0/0" {
            assert!(FORBIDDEN.iter().all(|range| excepted.contains(&(*range).into())), "{excepted:?}");
        } else {
            assert_eq!(peer["ipBlock"]["cidr"], "2000::/3", "no private address of IPv6");
        }
    }
    // A process that may deliver and cannot reach receivers would use up the attempts of deliveries.
    let delivers = |deployment: &Value| {
        let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned();
        let off = |it: &Value| it["name"] == "BESPEAK_WEBHOOKS" && it["value"] == "off";
        !variables.expect("variables").iter().any(off)
    };
    let delivering: Vec<_> =
        deployments().iter().filter(|it| delivers(it)).map(|it| plain(&it["metadata"]["name"])).collect();
    assert_eq!(selected(&webhooks), delivering);
}

#[test]
fn clients_reach_the_api_and_prometheus_reaches_what_it_scrapes() {
    let port = serde_json::json!([{"protocol": "TCP", "port": "http"}]);
    for (name, pods) in
        [("bespeak-api", &["bespeak-api"][..]), ("bespeak-metrics", &["bespeak-api", "bespeak-events"])]
    {
        let policy = policy(name);
        assert_eq!(selected(&policy), pods, "{name}");
        for rule in policy["spec"]["ingress"].as_array().expect("rules") {
            assert_eq!(rule["ports"], port, "{name}");
            assert!(
                rule["from"][0]["namespaceSelector"]["matchLabels"].is_object(),
                "{name}: every namespace"
            );
        }
    }
    for deployment in deployments() {
        let scraped = &deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/scrape"];
        assert_eq!(scraped, "true");
    }
}

#[test]
fn the_audit_runs_alone_with_its_own_account_and_alerts_watch_it() {
    let cron_job = objects("verify/cronjob.yaml").remove(0);
    let name = plain(&cron_job["metadata"]["name"]);
    assert_eq!(cron_job["spec"]["concurrencyPolicy"], "Forbid");
    let pod = &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"], serde_json::json!(["verify", "--record"]));
    assert_eq!(pod["restartPolicy"], "Never", "the exit code is the result");
    let sources = serde_json::json!([{"secretRef": {"name": "bespeak-audit"}}]);
    assert_eq!(pod["containers"][0]["envFrom"], sources);
    let rules = text("localstack/prometheus/rules.yaml");
    for watched in [format!("cronjob=\"{name}\""), format!("job_name=~\"{name}-.*\"")] {
        assert!(rules.contains(&watched), "no alert has {watched}");
    }
}

/// The path of a reservation contains its token, and a token is all that a caller needs to cancel it.
#[test]
fn access_logs_on_aws_contain_no_path() {
    let stack = super::stack::Stack::new(&[]);
    let format = plain(&stack.resources()["ApiStage"]["Properties"]["AccessLogSettings"]["Format"]);
    assert!(format.contains("$context.requestId") && format.contains("$context.routeKey"), "{format}");
    assert!(!format.contains("$context.path"), "{format}");
}

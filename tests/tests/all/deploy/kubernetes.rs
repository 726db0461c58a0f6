//! The manifests match the schemas of Kubernetes, the program, and one another.

use std::collections::BTreeMap;

use bespeak::config::{Config, SETTINGS, Values};
use bespeak_services::Tool;
use serde_json::{Value, json};

use super::{complaints, root, stack::plain, text, yaml};

const FOLDER: &str = "deploy/kubernetes";
/// The kustomizations, each of which is applied by its own `kubectl apply -k`.
const SETS: [&str; 3] = ["deploy/kubernetes", "deploy/kubernetes/migrate", "deploy/kubernetes/verify"];
/// The example that users copy, change and apply by hand.
const EXAMPLE: &str = "secret.example.yaml";

fn files(folder: &str) -> Vec<String> {
    let listed = std::fs::read_dir(root().join(folder)).expect("a folder");
    let names = listed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names
        .filter(|name| {
            std::path::Path::new(name).extension().is_some_and(|of| of == "yaml")
                && name != "kustomization.yaml"
        })
        .collect();
    names.sort();
    names
}

/// All objects of all files.
fn objects() -> Vec<Value> {
    let of = |folder: &&str| {
        let folder = (*folder).to_owned();
        files(&folder)
            .into_iter()
            .flat_map(move |file| yaml::documents(&format!("{folder}/{file}")))
            .collect::<Vec<_>>()
    };
    SETS.iter().flat_map(of).collect()
}

fn named(kind: &str, name: &str) -> Value {
    let found = objects().into_iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// The objects that have pods: Deployments and Jobs, including the Job that a CronJob creates.
fn workloads() -> Vec<Value> {
    let job_of = |object: Value| match &object["spec"]["jobTemplate"]["spec"] {
        Value::Null => object,
        spec => json!({ "metadata": object["metadata"], "spec": spec }),
    };
    let found: Vec<_> =
        objects().into_iter().map(job_of).filter(|it| it["spec"]["template"].is_object()).collect();
    assert_eq!(found.len(), 4);
    found
}

fn container(workload: &Value) -> &Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    &containers[0]
}

#[test]
fn manifests_match_the_kubernetes_schemas() {
    let of =
        |folder: &str| files(folder).into_iter().map(|file| format!("{folder}/{file}")).collect::<Vec<_>>();
    let all: Vec<_> = SETS.iter().flat_map(|folder| of(folder)).collect();
    let mut arguments = vec!["--strict", "--quiet"];
    arguments.extend(all.iter().map(String::as_str));
    assert_eq!(complaints(Tool::KUBERNETES_VALIDATE, &arguments), "");
}

#[test]
fn kustomizations_list_every_manifest_and_pin_the_image() {
    for folder in SETS {
        let set = yaml::documents(&format!("{folder}/kustomization.yaml")).remove(0);
        let mut listed: Vec<_> = set["resources"].as_array().expect("resources").iter().map(plain).collect();
        listed.sort();
        let mut there = files(folder);
        there.retain(|file| file != EXAMPLE);
        assert_eq!(listed, there, "{folder}");
        assert_eq!(set["images"][0]["name"], "bespeak", "{folder}");
        assert_eq!(
            set["images"][0]["newTag"],
            env!("CARGO_PKG_VERSION"),
            "{folder}: the workspace's version"
        );
    }
    for workload in workloads() {
        assert_eq!(container(&workload)["image"], "bespeak");
    }
}

#[test]
fn container_environments_are_valid_configurations() {
    for workload in workloads() {
        let (workload, container) = (plain(&workload["metadata"]["name"]), container(&workload));
        let mut variables = BTreeMap::new();
        for from in container["envFrom"].as_array().expect("sources") {
            let (kind, source) = if from["configMapRef"].is_object() {
                ("ConfigMap", &from["configMapRef"])
            } else {
                ("Secret", &from["secretRef"])
            };
            let object = named(kind, &plain(&source["name"]));
            let data = object.get("data").or_else(|| object.get("stringData")).expect("data");
            variables.extend(
                data.as_object().expect("fields").iter().map(|(name, value)| (name.clone(), plain(value))),
            );
        }
        for variable in container["env"].as_array().expect("variables") {
            assert!(
                variable["value"].is_string(),
                "{workload}: {variable} must be text in YAML, as it is in the environment"
            );
            variables.insert(plain(&variable["name"]), plain(&variable["value"]));
        }
        for name in variables.keys() {
            assert!(
                SETTINGS.iter().any(|setting| setting.name == name),
                "{workload}: {name} is not a setting of Bespeak"
            );
        }
        let parsed = Config::parse(&Values::collect(|_| None, |name| variables.get(name).cloned()));
        assert!(parsed.is_ok(), "{workload} does not start: {}", parsed.expect_err("it is wrong"));
    }
}

#[test]
fn only_the_events_deployment_relays_and_consumes() {
    let setting = |deployment: &str, name: &str| {
        let deployment = named("Deployment", deployment);
        let variables = container(&deployment)["env"].as_array().expect("variables").clone();
        variables.iter().find(|it| it["name"] == name).map(|it| plain(&it["value"])).expect("it is set")
    };
    for name in ["BESPEAK_RELAY", "BESPEAK_CONSUMER"] {
        assert_eq!(setting("bespeak-api", name), "off");
        assert_eq!(setting("bespeak-events", name), "on");
    }
}

#[test]
fn probes_use_served_paths_and_liveness_ignores_outages() {
    let routes = text("shared/http/src/operations.rs");
    for name in ["bespeak-api", "bespeak-events"] {
        let deployment = named("Deployment", name);
        let container = container(&deployment);
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let asked = &container[probe]["httpGet"];
            let path = plain(&asked["path"]);
            assert!(routes.contains(&format!("get, path = \"{path}\"")), "{name}: no route serves {path}");
            assert_eq!(asked["port"], container["ports"][0]["name"], "{name}");
        }
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/health/live");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/health/ready");
    }
    let listens = plain(&named("ConfigMap", "bespeak")["data"]["BESPEAK_LISTEN"]);
    let port = container(&named("Deployment", "bespeak-api"))["ports"][0]["containerPort"].clone();
    assert_eq!(listens, format!("0.0.0.0:{port}"));
}

#[test]
fn pods_run_with_least_privilege() {
    let dockerfile = text("Dockerfile");
    for workload in workloads() {
        let name = plain(&workload["metadata"]["name"]);
        let pod = &workload["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let user = format!(
            "USER {}:{}\n",
            pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]
        );
        assert!(dockerfile.contains(&user), "{name}: the image does not have the user {user}");
        let container = container(&workload);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]), "{name}");
        for bound in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            assert!(container["resources"].pointer(bound).is_some(), "{name}: {bound}");
        }
    }
}

#[test]
fn selectors_match_the_pod_labels() {
    let deployments = ["bespeak-api", "bespeak-events"].map(|name| named("Deployment", name));
    let labels = deployments.each_ref().map(|it| &it["spec"]["template"]["metadata"]["labels"]);
    for (deployment, labels) in deployments.iter().zip(labels) {
        assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
        assert!(deployment["spec"]["replicas"].as_u64().is_some_and(|replicas| replicas >= 2));
    }
    let budgets: Vec<_> = objects().into_iter().filter(|it| it["kind"] == "PodDisruptionBudget").collect();
    assert_eq!(budgets.len(), deployments.len());
    for (budget, labels) in budgets.iter().zip(labels) {
        assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    }
    let service = named("Service", "bespeak");
    assert_eq!(&service["spec"]["selector"], labels[0]);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], container(&deployments[0])["ports"][0]["name"]);
}

#[test]
fn example_secret_contains_no_credentials() {
    for secret in yaml::documents(&format!("{FOLDER}/{EXAMPLE}")) {
        let url = plain(&secret["stringData"]["BESPEAK_DATABASE_URL"]);
        assert!(url.contains(":REPLACE@"), "{url}");
    }
}

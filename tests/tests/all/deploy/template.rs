//! `template.yaml` agrees with the workspace, for every event source and every kind of compute.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::Stdio,
};

use bespeak::config::{Config, SETTINGS, Values};
use bespeak_services::Tool;
use serde_json::Value;

use super::{
    complaints,
    stack::{Stack, fields, number, plain},
    text, workspace,
};

const MSK: &str = "arn:aws:kafka:eu-central-1:123456789012:cluster/events/abc-1";
const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:kafka-x";
const BROKERS: &str = "b-1.example.com:9096,b-2.example.com:9096";

/// Parameters of stacks that users may deploy.
const VARIANTS: [&[(&str, &str)]; 7] = [
    &[],
    &[("Compute", "instances")],
    &[("Events", "msk"), ("MskClusterArn", MSK), ("KafkaBrokers", BROKERS), ("KafkaLogin", "msk-iam")],
    &[
        ("Events", "msk"),
        ("MskClusterArn", MSK),
        ("KafkaBrokers", BROKERS),
        ("KafkaLogin", "scram-sha-512"),
        ("KafkaSecretArn", SECRET),
        ("OperatorImage", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/bespeak:1"),
    ],
    &[
        ("Events", "kafka"),
        ("KafkaBrokers", BROKERS),
        ("KafkaTls", "false"),
        ("WebhookUrl", "https://example.com/hook"),
        ("WebhookSecretArn", SECRET),
    ],
    &[
        ("Events", "kafka"),
        ("KafkaBrokers", BROKERS),
        ("KafkaLogin", "scram-sha-512"),
        ("KafkaSecretArn", SECRET),
        ("KafkaCaSecretArn", SECRET),
        ("CertificatesLayerArn", "arn:aws:lambda:eu-central-1:123456789012:layer:authorities:1"),
    ],
    &[
        ("Events", "sqs"),
        ("KafkaBrokers", BROKERS),
        ("KafkaTls", "false"),
        ("OperatorImage", "bespeak:1"),
        ("OperatorSecretArn", SECRET),
        ("AlarmEmail", "ops@example.com"),
        ("DatabaseSecurityGroupId", "sg-01234567"),
        ("KafkaSecurityGroupId", "sg-01234567"),
    ],
];

/// The stack of each variant.
pub(super) fn stacks() -> impl Iterator<Item = Stack> {
    VARIANTS.iter().map(|given| Stack::new(given))
}

#[test]
fn template_linter_reports_nothing() {
    assert_eq!(complaints(Tool::CFN_LINT, &["template.yaml"]), "");
}

/// The linter checks only shapes; this runs AWS's own code that translates the template at deployment.
#[test]
fn sam_transform_accepts_the_template() {
    let mut template = Stack::new(&[]).template().clone();
    let resources = template["Resources"].as_object_mut().expect("resources");
    for resource in resources.values_mut().filter(|it| it["Type"] == "AWS::Serverless::Function") {
        // `sam package` would set this.
        resource["Properties"]["CodeUri"] = "s3://bucket/key".into();
    }
    let script = "import json, sys
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
template = Translator({}, Parser()).translate(json.load(sys.stdin), {'AWS::Region': 'eu-central-1'})
kinds = [resource['Type'] for resource in template['Resources'].values()]
assert not [kind for kind in kinds if kind.startswith('AWS::Serverless')], kinds
schedules = [it for it in template['Resources'].values() if it['Type'] == 'AWS::Scheduler::Schedule']
assert all('Fn::Sub' in it['Properties']['Name'] for it in schedules), 'two stacks would share a schedule'
";
    let mut python = Tool::SAM_TRANSLATOR.python().expect("the transform is there");
    let python = python.args(["-c", script]).env("AWS_DEFAULT_REGION", "eu-central-1");
    let mut running = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = running.stdin.take().expect("a pipe");
    stdin.write_all(template.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = running.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn deployed_functions_match_the_binaries() {
    let programs = workspace::programs();
    let mut deployed = BTreeMap::<String, String>::new();
    for (name, function) in stacks().flat_map(|stack| stack.functions()) {
        let properties = &function["Properties"];
        assert_eq!(function["Metadata"]["BuildMethod"], "rust-cargolambda", "{name}");
        let folder = plain(&properties["CodeUri"]);
        let binary = plain(&function["Metadata"]["BuildProperties"]["Binary"]);
        let there =
            programs.get(&folder).unwrap_or_else(|| panic!("{name}: there is no package in {folder}"));
        assert!(there.contains(&binary), "{name}: {folder} has no program {binary}, but {there:?}");
        assert_eq!(properties["Runtime"], "provided.al2023", "{name}");
        assert_eq!(properties["Handler"], "bootstrap", "{name}");
        assert_eq!(properties["Architectures"], serde_json::json!(["arm64"]), "{name}");
        deployed.insert(folder, binary);
    }
    for (folder, binaries) in programs.iter().filter(|(folder, _)| folder.starts_with("functions/")) {
        assert_eq!(binaries, &[deployed.get(folder).cloned().unwrap_or_default()], "{folder}");
    }
}

/// A function ignores a misspelt variable silently, so this test has to find it.
#[test]
fn function_environments_are_valid_configurations() {
    for (name, function) in stacks().flat_map(|stack| stack.functions()) {
        let variables: BTreeMap<_, _> = fields(&function["Properties"]["Environment"]["Variables"])
            .map(|(name, value)| (name.to_owned(), resolved(&plain(value))))
            .collect();
        configures(&name, &variables);
    }
}

#[test]
fn operator_task_environment_is_a_valid_configuration() {
    let tasks = stacks().flat_map(|stack| stack.resources());
    let tasks: Vec<_> = tasks.filter(|(name, _)| name == "OperatorTask").collect();
    assert_eq!(tasks.len(), 2);
    for (name, task) in tasks {
        let container = &task["Properties"]["ContainerDefinitions"][0];
        let mut variables = BTreeMap::new();
        for variable in container["Environment"].as_array().expect("variables") {
            variables.insert(plain(&variable["Name"]), plain(&variable["Value"]));
        }
        for secret in container["Secrets"].as_array().expect("secrets") {
            let from = plain(&secret["ValueFrom"]);
            let key = from.strip_suffix("::").and_then(|from| from.rsplit(':').next()).expect("ARN:key::");
            variables.insert(plain(&secret["Name"]), value_of(key));
        }
        configures(&name, &variables);
    }
}

fn configures(component: &str, variables: &BTreeMap<String, String>) {
    for name in variables.keys() {
        let known = SETTINGS.iter().any(|setting| setting.name == name);
        assert!(known, "{component}: {name} is not a setting of Bespeak");
    }
    let parsed = Config::parse(&Values::collect(|_| None, |name| variables.get(name).cloned()));
    assert!(parsed.is_ok(), "{component} does not start: {}", parsed.expect_err("it is wrong"));
}

/// The value of a variable, with a reference to a secret replaced by an example of its value.
fn resolved(value: &str) -> String {
    let reference = value.strip_prefix("{{resolve:secretsmanager:").and_then(|it| it.strip_suffix("}}"));
    let Some(reference) = reference else { return value.to_owned() };
    let (arn, key) = reference.split_once(":SecretString:").expect("ARN:SecretString:key");
    assert!(arn.starts_with("arn:aws:secretsmanager:"), "{arn}");
    value_of(key)
}

fn value_of(key: &str) -> String {
    match key {
        "url" => "mysql://bespeak:x@db.example.com:3306/bespeak?ssl-mode=VERIFY_IDENTITY&ssl-ca=/opt/rds.pem",
        "secret" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "username" | "password" => "x",
        other => panic!("there is no example for the key {other} of a secret"),
    }
    .to_owned()
}

/// With an explicit input, the function would take the event for a manual request, which ends when no work is left.
#[test]
fn schedule_sends_its_default_event_every_minute() {
    let functions = Stack::new(&[]).functions();
    let schedule = &functions["RelayCron"]["Properties"]["Events"]["EachMinute"]["Properties"];
    assert_eq!(schedule["ScheduleExpression"], "rate(1 minute)");
    assert_eq!(schedule["Input"], Value::Null);
    assert_eq!(schedule["RetryPolicy"]["MaximumRetryAttempts"], 0, "the next run is a minute later anyway");
}

#[test]
fn contradictory_parameters_are_refused_by_name() {
    for given in VARIANTS {
        assert_eq!(Stack::new(given).refusals(), [""; 0], "{given:?}");
    }
    let wrong: [(&[(&str, &str)], &str); 6] = [
        (&[("Events", "kafka")], "KafkaBrokers"),
        (&[("Events", "msk"), ("KafkaBrokers", BROKERS)], "MskClusterArn"),
        (
            &[("Events", "msk"), ("KafkaBrokers", BROKERS), ("MskClusterArn", MSK), ("KafkaTls", "false")],
            "KafkaTls",
        ),
        (
            &[
                ("Events", "kafka"),
                ("KafkaBrokers", BROKERS),
                ("KafkaLogin", "msk-iam"),
                ("MskClusterArn", MSK),
            ],
            "KafkaLogin",
        ),
        (&[("Events", "sqs"), ("KafkaBrokers", BROKERS), ("KafkaLogin", "scram-sha-512")], "KafkaSecretArn"),
        (&[("WebhookUrl", "https://example.com")], "WebhookSecretArn"),
    ];
    for (given, parameter) in wrong {
        let refusals = Stack::new(given).refusals();
        assert!(refusals.iter().any(|refusal| refusal.starts_with(parameter)), "{given:?}: {refusals:?}");
    }
}

#[test]
fn every_parameter_is_used_described_and_grouped_once() {
    let stack = Stack::new(&[]);
    let template = stack.template();
    let groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"].as_array();
    let grouped: Vec<_> = groups
        .expect("groups")
        .iter()
        .flat_map(|group| group["Parameters"].as_array().expect("parameters"))
        .map(plain)
        .collect();
    let mut rest = template.clone();
    rest["Parameters"].take();
    rest["Metadata"].take();
    rest["Rules"].take();
    let rest = rest.to_string();
    for (name, parameter) in fields(&template["Parameters"]) {
        let used =
            [format!("{{\"Ref\":\"{name}\"}}"), format!("${{{name}}}")].iter().any(|it| rest.contains(it));
        assert!(used, "nothing uses {name}");
        assert!(parameter["Description"].as_str().is_some_and(|it| it.len() > 10), "{name} is not described");
        assert_eq!(grouped.iter().filter(|it| *it == name).count(), 1, "{name} is in one group");
    }
    assert_eq!(
        grouped.len(),
        fields(&template["Parameters"]).count(),
        "a group names a parameter that does not exist"
    );
    assert_eq!(
        template["Parameters"]["Authorization"]["Default"], "AWS_IAM",
        "public access must be an explicit choice"
    );
}

#[test]
fn outputs_refer_to_resources_of_the_stack() {
    let mut seen = BTreeSet::new();
    for (name, value) in stacks().flat_map(|stack| stack.outputs()) {
        assert!(plain(&value).contains('<'), "{name}: {value} refers to no resource");
        seen.insert(name);
    }
    for (name, output) in fields(&Stack::new(&[]).template()["Outputs"]) {
        assert!(seen.contains(name), "no variant has the output {name}");
        assert!(output["Description"].is_string(), "{name} is not described");
    }
}

/// Amazon MSK accepts only secrets that are encrypted with a customer-managed key.
#[test]
fn secret_readers_may_decrypt() {
    let mut readers = 0;
    for variant in VARIANTS {
        for key in ["", "arn:aws:kms:eu-central-1:123456789012:key/mrk-1"] {
            let mut given = variant.to_vec();
            given.push(("SecretsKeyArn", key));
            for (name, resource) in Stack::new(&given).resources() {
                let policies = resource["Properties"]["Policies"].to_string();
                let reads = policies.contains("secretsmanager:GetSecretValue");
                let decrypts = policies.contains("kms:Decrypt");
                assert_eq!(decrypts, reads && !key.is_empty(), "{name}: {given:?}");
                assert!(!decrypts || policies.contains(key), "{name}: {given:?}");
                readers += usize::from(reads);
            }
        }
    }
    assert_eq!(readers, 2 * 4, "pollers in two variants, the operator's task in two");
}

#[test]
fn name_patterns_match_the_length_limits() {
    let takes = |group: usize, topic: usize| {
        let variables = BTreeMap::from([
            ("BESPEAK_DATABASE_URL", value_of("url")),
            ("BESPEAK_CONSUMER_GROUP", "g".repeat(group)),
            ("BESPEAK_EVENTS_URL", format!("kafka://b-1.example.com:9092/{}", "t".repeat(topic))),
        ]);
        Config::parse(&Values::collect(|_| None, |name| variables.get(name).cloned())).is_ok()
    };
    assert!(takes(64, 240) && !takes(65, 240) && !takes(64, 241));
    let stack = Stack::new(&[]);
    let pattern = |parameter: &str| plain(&stack.template()["Parameters"][parameter]["AllowedPattern"]);
    assert_eq!(pattern("ConsumerGroup"), "[A-Za-z0-9._-]{1,64}");
    assert_eq!(pattern("KafkaTopic"), "[A-Za-z0-9][A-Za-z0-9._-]{0,239}");
}

#[test]
fn timeouts_are_nested() {
    for stack in stacks() {
        let (resources, functions) = (stack.resources(), stack.functions());
        let timeout = |name: &str| functions.get(name).map(|it| number(&it["Properties"]["Timeout"]));
        let api = number(&resources["ApiIntegration"]["Properties"]["TimeoutInMillis"]);
        let reserve = timeout("Reserve").or_else(|| timeout("ReserveOnInstances")).expect("a function");
        assert!(reserve * 1000 < api && api < 30_000);
        // An invocation must end before the next one of the schedule begins.
        assert!(timeout("RelayCron").is_some_and(|seconds| seconds < 60));
        if let Some(queue) = resources.get("ConsumerQueue") {
            let visibility = number(&queue["Properties"]["VisibilityTimeout"]);
            assert!(visibility >= 6 * timeout("Consumer").expect("a consumer"), "as Lambda recommends");
        }
    }
}

#[test]
fn event_sources_report_partial_failures_and_have_a_failure_queue() {
    let mut seen = Vec::new();
    for stack in stacks() {
        for (name, source) in stack.resources() {
            if source["Type"] != "AWS::Lambda::EventSourceMapping" {
                continue;
            }
            let properties = &source["Properties"];
            assert_eq!(properties["FunctionResponseTypes"][0], "ReportBatchItemFailures", "{name}");
            if name == "FromRecordQueue" {
                let redrive = &stack.resources()["ConsumerQueue"]["Properties"]["RedrivePolicy"];
                assert_eq!(redrive["deadLetterTargetArn"], "<ConsumerFailures.Arn>");
            } else {
                // Lambda honours partial failures from Kafka only in provisioned mode. A maximum of -1 would mean ten
                // attempts, not unlimited ones.
                assert!(properties["ProvisionedPollerConfig"]["MaximumPollers"].is_number(), "{name}");
                assert!(number(&properties["MaximumRetryAttempts"]) > 100, "{name}");
                assert_eq!(
                    properties["DestinationConfig"]["OnFailure"]["Destination"],
                    "<ConsumerFailures.Arn>"
                );
                assert_eq!(properties["StartingPosition"], "TRIM_HORIZON", "{name}");
            }
            seen.push(name);
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["FromKafkaTopic", "FromMskTopic", "FromRecordQueue"]);
}

#[test]
fn sam_builds_are_not_cached() {
    let configuration = text("samconfig.toml");
    assert!(configuration.contains("cached = false"), "SAM's cache ignores changes in shared/");
}

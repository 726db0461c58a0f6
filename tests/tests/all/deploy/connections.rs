//! A stack opens fewer connections than its database allows, both on Lambda and on instances.

use std::collections::BTreeSet;

use serde_json::Value;

use super::stack::{Stack, fields, number, plain};

/// Parameters under which every component connects, the consumer and the operator's task included.
const WITH_ALL: [(&str, &str); 4] = [
    ("Events", "sqs"),
    ("KafkaBrokers", "b-1.example.com:9092"),
    ("KafkaTls", "false"),
    ("OperatorImage", "bespeak:1"),
];

fn with_all_and(given: &[(&str, &str)]) -> Stack {
    let mut parameters = WITH_ALL.to_vec();
    parameters.extend_from_slice(given);
    Stack::new(&parameters)
}

/// The values that a parameter may have.
fn allowed(parameter: &str) -> BTreeSet<String> {
    let values = Stack::new(&[]).template()["Parameters"][parameter]["AllowedValues"].clone();
    values.as_array().expect("values").iter().map(plain).collect()
}

/// The largest number of connections of a stack. Instances count twice, because a deployment runs two versions at once.
fn opened(stack: &Stack) -> u64 {
    let functions = stack.functions();
    let of_functions = functions.iter().map(|(name, function)| {
        let properties = &function["Properties"];
        let of = |setting: &str| number(&properties["Environment"]["Variables"][setting]);
        let each = of("BESPEAK_WRITE_CONNECTIONS") + of("BESPEAK_READ_CONNECTIONS");
        let instances = &properties["FunctionScalingConfig"]["MaxExecutionEnvironments"];
        let environments = if instances.is_null() {
            number(&properties["ReservedConcurrentExecutions"])
        } else {
            2 * number(instances)
        };
        assert!(environments > 0, "{name}");
        each * environments
    });
    of_functions.sum::<u64>() + opened_by_operator(&stack.resources()["OperatorTask"])
}

/// The connections of the operator's task: its pools, and one for the migration.
fn opened_by_operator(task: &Value) -> u64 {
    let variables = task["Properties"]["ContainerDefinitions"][0]["Environment"].as_array();
    let pools = variables.expect("variables").iter();
    let pools = pools.filter(|variable| plain(&variable["Name"]).ends_with("_CONNECTIONS"));
    pools.map(|variable| number(&variable["Value"])).sum::<u64>() + 1
}

#[test]
fn functions_open_fewer_connections_than_the_database_allows() {
    let limits = allowed("DatabaseConnections");
    let template = Stack::new(&[]).template().clone();
    let mapped: BTreeSet<_> =
        fields(&template["Mappings"]["Connections"]).map(|(limit, _)| limit.to_owned()).collect();
    assert_eq!(limits, mapped);
    for limit in limits {
        let sum = opened(&with_all_and(&[("DatabaseConnections", limit.as_str())]));
        let limit: u64 = limit.parse().expect("a number");
        assert!(sum * 10 <= limit * 9, "{sum} of {limit} connections are more than nine tenths");
        assert!(sum * 10 > limit * 6, "{sum} of {limit} connections leave too many unused");
    }
}

#[test]
fn instances_are_refused_only_if_they_exceed_the_connection_limit() {
    for limit in allowed("DatabaseConnections") {
        for environments in allowed("InstanceEnvironments") {
            let stack = with_all_and(&[
                ("Compute", "instances"),
                ("DatabaseConnections", limit.as_str()),
                ("InstanceEnvironments", environments.as_str()),
            ]);
            let fits = opened(&stack) * 10 <= limit.parse::<u64>().expect("a number") * 9;
            let refusals = stack.refusals();
            assert_eq!(refusals.is_empty(), fits, "{environments} with {limit}: {refusals:?}");
            let helps = |refusal: &String| {
                refusal.starts_with("InstanceEnvironments: ") || refusal.starts_with("DatabaseConnections: ")
            };
            assert!(refusals.iter().all(helps), "{refusals:?}");
        }
    }
}

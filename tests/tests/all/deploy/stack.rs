//! Evaluates the template as CloudFormation does: the resources and their properties for given parameters.
//!
//! Never: values that only AWS knows. A name or an attribute of a resource is `<Resource>` or
//! `<Resource.Attribute>`; a secret stays the reference to it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::yaml;

/// The parameters without a default, with values for the tests.
const NEEDED: [(&str, &str); 3] = [
    ("VpcId", "vpc-1"),
    ("SubnetIds", "subnet-1,subnet-2"),
    ("DatabaseSecretArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-x"),
];

/// The template with its parameters applied.
pub(super) struct Stack {
    template: Value,
    parameters: BTreeMap<String, Value>,
}

impl Stack {
    /// The template with these parameters, and defaults for the others.
    pub(super) fn new(given: &[(&str, &str)]) -> Self {
        let template = yaml::documents("template.yaml").remove(0);
        let mut parameters: BTreeMap<_, _> = [
            ("AWS::Region", "eu-central-1"),
            ("AWS::AccountId", "123456789012"),
            ("AWS::Partition", "aws"),
            ("AWS::StackName", "bespeak"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
        for (name, parameter) in fields(&template["Parameters"]) {
            let named = |(other, _): &&(&str, &str)| *other == name;
            let value = given.iter().chain(&NEEDED).find(named).map(|(_, value)| json!(value));
            let value = value.unwrap_or_else(|| parameter["Default"].clone());
            assert!(!value.is_null(), "{name} is not given");
            let allowed = parameter["AllowedValues"].as_array();
            assert!(
                allowed.is_none_or(|allowed| allowed.iter().any(|one| plain(one) == plain(&value))),
                "{name}={value}"
            );
            let is_list = parameter["Type"].as_str().is_some_and(|kind| kind.starts_with("List<"));
            let value = if is_list { split(&value, ",") } else { value };
            parameters.insert(name.to_owned(), value);
        }
        let unknown = given.iter().find(|(name, _)| !parameters.contains_key(*name));
        assert!(unknown.is_none(), "there is no parameter {unknown:?}");
        Self { template, parameters }
    }

    /// The template as written.
    pub(super) fn template(&self) -> &Value {
        &self.template
    }

    /// The reasons for which CloudFormation would refuse these parameters.
    pub(super) fn refusals(&self) -> Vec<String> {
        let rules = fields(&self.template["Rules"])
            .filter(|(_, rule)| rule.get("RuleCondition").is_none_or(|condition| self.holds(condition)));
        let assertions =
            rules.flat_map(|(_, rule)| rule["Assertions"].as_array().expect("assertions").clone());
        assertions
            .filter(|assertion| !self.holds(&assertion["Assert"]))
            .map(|assertion| plain(&assertion["AssertDescription"]))
            .collect()
    }

    /// The evaluated resources that the stack would contain.
    pub(super) fn resources(&self) -> BTreeMap<String, Value> {
        fields(&self.template["Resources"])
            .filter(|(_, resource)| resource["Condition"].as_str().is_none_or(|name| self.has(name)))
            .map(|(name, resource)| (name.to_owned(), self.value(resource).expect("a resource")))
            .collect()
    }

    /// The evaluated outputs of the stack.
    pub(super) fn outputs(&self) -> BTreeMap<String, Value> {
        fields(&self.template["Outputs"])
            .filter(|(_, output)| output["Condition"].as_str().is_none_or(|name| self.has(name)))
            .map(|(name, output)| (name.to_owned(), self.value(&output["Value"]).expect("a value")))
            .collect()
    }

    /// The functions among the resources, with the properties of `Globals` merged in.
    pub(super) fn functions(&self) -> BTreeMap<String, Value> {
        let globals = self.value(&self.template["Globals"]["Function"]).expect("globals");
        let functions =
            self.resources().into_iter().filter(|(_, it)| it["Type"] == "AWS::Serverless::Function");
        functions
            .map(|(name, mut function)| {
                let mut merged = globals.clone();
                merge(&mut merged, function["Properties"].take());
                function["Properties"] = merged;
                (name, function)
            })
            .collect()
    }

    /// Whether a condition of this name holds.
    fn has(&self, name: &str) -> bool {
        let condition = &self.template["Conditions"][name];
        assert!(!condition.is_null(), "there is no condition {name}");
        self.holds(condition)
    }

    fn holds(&self, condition: &Value) -> bool {
        let (function, operands) = call(condition).unwrap_or_else(|| panic!("not a condition: {condition}"));
        let all = || operands.as_array().expect("operands");
        match function {
            "Condition" => self.has(operands.as_str().expect("a name")),
            "Fn::Not" => !self.holds(&all()[0]),
            "Fn::And" => all().iter().all(|operand| self.holds(operand)),
            "Fn::Or" => all().iter().any(|operand| self.holds(operand)),
            "Fn::Equals" => {
                let side = |at: usize| plain(&self.value(&all()[at]).expect("a value"));
                side(0) == side(1)
            }
            "Fn::Contains" => {
                let wanted = plain(&self.value(&all()[1]).expect("a value"));
                all()[0].as_array().expect("a list").iter().any(|one| plain(one) == wanted)
            }
            other => panic!("{other} is not a condition"),
        }
    }

    /// The evaluated node; `None` if it is `AWS::NoValue`.
    fn value(&self, node: &Value) -> Option<Value> {
        if let Some((function, operands)) = call(node) {
            return self.called(function, operands);
        }
        Some(match node {
            Value::Array(items) => items.iter().filter_map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter();
                let worked_out = fields.filter_map(|(name, value)| Some((name.clone(), self.value(value)?)));
                Value::Object(worked_out.collect::<Map<_, _>>())
            }
            scalar => scalar.clone(),
        })
    }

    fn called(&self, function: &str, operands: &Value) -> Option<Value> {
        let operand = |at: usize| self.value(&operands[at]).expect("an operand");
        Some(match function {
            "Ref" if operands == "AWS::NoValue" => return None,
            "Ref" => {
                let name = operands.as_str().expect("a name");
                self.parameters.get(name).cloned().unwrap_or_else(|| self.of_resource(name))
            }
            "Fn::GetAtt" => self.of_resource(&format!("{}.{}", plain(&operands[0]), plain(&operands[1]))),
            "Fn::If" if self.has(operands[0].as_str().expect("a condition")) => {
                return self.value(&operands[1]);
            }
            "Fn::If" => return self.value(&operands[2]),
            "Fn::Join" => {
                let parts: Vec<_> = operand(1).as_array().expect("parts").iter().map(plain).collect();
                json!(parts.join(&plain(&operands[0])))
            }
            "Fn::Split" => split(&operand(1), &plain(&operands[0])),
            "Fn::Select" => operand(1)[plain(&operands[0]).parse::<usize>().expect("an index")].clone(),
            "Fn::FindInMap" => {
                let keys = [operand(0), operand(1), operand(2)].map(|key| plain(&key));
                let found = &self.template["Mappings"][&keys[0]][&keys[1]][&keys[2]];
                assert!(!found.is_null(), "nothing in the mapping at {keys:?}");
                found.clone()
            }
            "Fn::Sub" => json!(self.substituted(operands)),
            other => panic!("this test does not know {other}"),
        })
    }

    fn substituted(&self, operands: &Value) -> String {
        let (text, own) = match operands {
            Value::Array(both) => (plain(&both[0]), both[1].clone()),
            text => (plain(text), Value::Null),
        };
        let mut parts = text.split("${");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').expect("a closing brace");
            let value = own.get(name).and_then(|value| self.value(value));
            let value = value.or_else(|| self.parameters.get(name).cloned());
            whole.push_str(&plain(&value.unwrap_or_else(|| self.of_resource(name))));
            whole.push_str(rest);
        }
        whole
    }

    /// The placeholder for a name or an attribute of a resource, which must exist.
    fn of_resource(&self, path: &str) -> Value {
        let name = path.split('.').next().unwrap_or(path);
        let resource = &self.template["Resources"][name];
        assert!(!resource.is_null(), "there is no resource and no parameter {name}");
        let there = resource["Condition"].as_str().is_none_or(|condition| self.has(condition));
        assert!(there, "{path} is referred to, but its condition does not hold");
        json!(format!("<{path}>"))
    }
}

/// The fields of an object, in their order.
pub(super) fn fields(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// Text as it is and other values as JSON: CloudFormation compares both as text.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number, given as a number or as text.
pub(super) fn number(value: &Value) -> u64 {
    plain(value).parse().unwrap_or_else(|_| panic!("{value} is not a number"))
}

/// An object with one field that is the name of a function.
fn call(node: &Value) -> Option<(&str, &Value)> {
    let (name, operands) =
        fields(node).next().filter(|_| node.as_object().is_some_and(|it| it.len() == 1))?;
    (name.starts_with("Fn::") || name == "Ref" || (name == "Condition" && operands.is_string()))
        .then_some((name, operands))
}

fn split(text: &Value, at: &str) -> Value {
    plain(text).split(at).map(|part| json!(part)).collect()
}

/// Puts `over` over `under`, object by object.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

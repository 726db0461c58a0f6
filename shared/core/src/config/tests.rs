use super::*;
use crate::secret_url::SecretUrl;

fn values(name: &'static str, value: &str) -> Values {
    Values::collect(|asked| (asked == name).then(|| value.to_owned()), |_| None)
}

fn refusal(name: &'static str, value: &str) -> String {
    Config::parse(&values(name, value)).expect_err("must be refused").to_string()
}

#[test]
fn defaults_are_valid_and_equal_the_documented_limits() {
    let config = Config::parse(&Values::collect(|_| None, |_| None)).expect("valid");
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.strategy, Strategy::Lanes);
    assert_eq!(config.http.body_bytes_max, 64 * 1024);
    assert_eq!(config.http.import_bytes_max, 4 * 1024 * 1024);
}

#[test]
fn an_invalid_value_is_reported_in_one_line_with_variable_value_and_expectation() {
    assert_eq!(
        refusal("BESPEAK_LANE_QUEUE", "many"),
        r#"BESPEAK_LANE_QUEUE="many" is not valid: must be a whole number from 1 to 1000000"#
    );
    assert_eq!(
        refusal("BESPEAK_STRATEGY", "optimism"),
        concat!(
            r#"BESPEAK_STRATEGY="optimism" is not valid: must be lanes or conditional or pessimistic or optimistic"#,
            " or shedlock or redlock"
        )
    );
    assert!(refusal("BESPEAK_LISTEN", "8080").contains("such as 127.0.0.1:8080"));
    assert!(refusal("BESPEAK_DATABASE_URL", "sqlite::memory:").contains("loses acknowledged holds"));
    assert!(refusal("BESPEAK_DATABASE_URL", "mysql://db").contains("names a database"));
    assert!(refusal("BESPEAK_LANES", "2").contains("auto or a whole number from 1 to 1 with this database"));
    assert!(refusal("BESPEAK_STRATEGY", "conditional").contains("lanes or pessimistic with SQLite"));
    assert!(refusal("BESPEAK_RETENTION_HOURS", "71").contains("from 72"));
    assert!(refusal("BESPEAK_EVENT_RETENTION_HOURS", "169").contains("at most BESPEAK_RETENTION_HOURS"));
    assert!(refusal("BESPEAK_TTL_DEFAULT_SECONDS", "90000").contains("at most BESPEAK_TTL_MAX_SECONDS"));
}

#[test]
fn strategies_with_a_lock_need_the_experimental_setting_and_those_of_the_lab_never_serve() {
    let with = |strategy: &'static str, redis: &'static str| {
        Values::collect(
            |asked| match asked {
                "BESPEAK_STRATEGY" => Some(strategy.to_owned()),
                "BESPEAK_EXPERIMENTAL" => Some("true".to_owned()),
                "BESPEAK_REDIS_URLS" => Some(redis.to_owned()),
                _ => None,
            },
            |_| None,
        )
    };
    let refused = |strategy, redis| Config::parse(&with(strategy, redis)).expect_err("refused").to_string();
    for experimental in ["shedlock", "redlock"] {
        let refusal = refusal("BESPEAK_STRATEGY", experimental);
        assert!(refusal.contains("need BESPEAK_EXPERIMENTAL=true (serve --experimental)"), "{refusal}");
    }
    assert_eq!(Config::parse(&with("shedlock", "")).expect("valid").strategy, Strategy::Shedlock);
    assert!(refused("redlock", "").starts_with("BESPEAK_REDIS_URLS=\"\" is not valid: must be set"));
    let nodes = "redis://:hunter2@a:1, rediss://b,redis://c:6380/1";
    let config = Config::parse(&with("redlock", nodes)).expect("valid");
    assert_eq!(config.locks.redis_urls.len(), 3);
    assert!(!format!("{config:?}").contains("hunter2"));
    let setting = SETTINGS.iter().find(|setting| setting.name == "BESPEAK_REDIS_URLS").expect("known");
    assert_eq!(with("redlock", nodes).shown(setting).0, "***");
    let wrong = refused("lanes", "redis://a:1,:hunter2@b");
    assert!(wrong.contains("URL 2 of them is not") && !wrong.contains("hunter2"), "{wrong}");
    assert!(refused("lanes", "redis://a,redis://a:6379/1").contains("each named once"));
    for strategy in Strategy::ALL {
        assert_eq!(Strategy::named(strategy.as_str()), Some(*strategy));
        if !strategy.may_serve() {
            assert!(refused(strategy.as_str(), "redis://a").contains("is not valid: must be lanes or"));
        }
    }
}

#[test]
fn a_password_is_never_shown() {
    let url = "mysql://bespeak:hunter2@db/bespeak";
    assert!(!refusal("BESPEAK_DATABASE_URL", "mysql://bespeak:hunter2@db/").contains("hunter2"));
    let setting = SETTINGS.iter().find(|setting| setting.name == "BESPEAK_DATABASE_URL").expect("known");
    assert_eq!(values("BESPEAK_DATABASE_URL", url).shown(setting).0, "mysql://bespeak:***@db/bespeak");
    // A password with a character that should have been escaped.
    for character in ['#', '/', '?', '@', ':'] {
        let url = format!("mysql://bespeak:hunter2{character}x@db/bespeak");
        let shown = values("BESPEAK_DATABASE_URL", &url).shown(setting).0;
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!format!("{:?}", SecretUrl::new(url)).contains("hunter2"));
    }
    let config = Config::parse(&values("BESPEAK_DATABASE_URL", url)).expect("valid");
    assert_eq!((config.database.url(), config.lanes), (url, 8));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_webhook_has_a_url_and_a_secret_that_is_never_shown() {
    let both = |url: &'static str, secret: &'static str| {
        Values::collect(
            |asked| match asked {
                "BESPEAK_WEBHOOK_URL" => Some(url.to_owned()),
                "BESPEAK_WEBHOOK_SECRET" => Some(secret.to_owned()),
                _ => None,
            },
            |_| None,
        )
    };
    let refused = |url, secret| Config::parse(&both(url, secret)).expect_err("must be refused").to_string();
    let (url, secret) = ("https://example.com/hooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let config = Config::parse(&both(url, secret)).expect("valid");
    assert_eq!(config.webhooks.endpoint.as_ref().map(|endpoint| endpoint.secret.reveal()), Some(secret));
    assert!(!format!("{config:?}").contains("MfKQ"));
    let setting = SETTINGS.iter().find(|setting| setting.name == "BESPEAK_WEBHOOK_SECRET").expect("known");
    assert_eq!(both(url, secret).shown(setting).0, "***");
    assert_eq!(both(url, "").shown(setting).0, "");
    let wrong = refused(url, "hunter2");
    assert!(wrong.contains("BESPEAK_WEBHOOK_SECRET") && wrong.contains("must be whsec_"), "{wrong}");
    assert!(!wrong.contains("hunter2"), "{wrong}");
    assert!(refused(url, "").contains("BESPEAK_WEBHOOK_SECRET=\"\" is not valid: must be set"));
    assert!(refused("", secret).contains("BESPEAK_WEBHOOK_URL=\"\" is not valid: must be set"));
    assert!(refused("example.com", secret).contains("must be an http or https URL"));
    assert!(refused("http://10.0.0.1/", secret).contains("BESPEAK_WEBHOOK_ALLOW_PRIVATE"));
    assert!(refused("https://user:hunter2@example.com/", secret).contains("without user"));
    assert!(!refused("https://user:hunter2@example.com/", secret).contains("hunter2"));
    assert!(refusal("BESPEAK_WEBHOOK_ALLOW_PRIVATE", "yes").contains("true or false"));
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_default() {
    let both = Values::collect(
        |name| (name == "BESPEAK_ITEMS_MAX").then(|| "3".to_owned()),
        |name| matches!(name, "BESPEAK_ITEMS_MAX" | "BESPEAK_LANE_BATCH").then(|| "5".to_owned()),
    );
    let config = Config::parse(&both).expect("valid");
    assert_eq!((config.limits.items_max, config.lane_batch, config.lanes), (3, 5, 1));
}

#[test]
fn a_misspelt_variable_is_reported_with_the_probable_setting() {
    let found =
        unknown_variables(["BESPEAK_LANE_QUEU", "BESPEAK_SERVICE_HOST", "BESPEAK_LANES", "PATH"].into_iter());
    assert_eq!(
        found,
        [
            ("BESPEAK_LANE_QUEU".to_owned(), Some("BESPEAK_LANE_QUEUE")),
            ("BESPEAK_SERVICE_HOST".to_owned(), None)
        ]
    );
}

#[test]
fn a_rate_is_a_number_of_requests_and_a_time() {
    let rate = |text: &str| {
        let config = Config::parse(&values("BESPEAK_RATE_LIMIT_PER_HOLDER", text)).expect("valid");
        config.coordination.rate_limit.map(|rate| (rate.requests, rate.per.as_secs()))
    };
    assert_eq!(rate("none"), None);
    assert_eq!(rate("20/1s"), Some((20, 1)));
    assert_eq!(rate("300/5m"), Some((300, 300)));
    assert_eq!(rate("1000000/24h"), Some((1_000_000, 86_400)));
    for wrong in
        ["", "20", "20/s", "20/1", "0/1s", "1000001/1s", "20/0s", "20/25h", "20/1ms", "-1/1s", "20/1é", "20/"]
    {
        let refusal = refusal("BESPEAK_RATE_LIMIT_PER_HOLDER", wrong);
        assert!(refusal.contains("such as 20/1s, 300/5m or 1000/1h"), "{wrong}: {refusal}");
    }
    assert!(refusal("BESPEAK_REDIS_TIMEOUT_MS", "0").contains("from 1 to 1000"));
    assert!(refusal("BESPEAK_REDIS_PREFIX", "a b").contains("A-Za-z0-9._:-"));
}

#[test]
fn only_processes_of_the_same_database_share_a_scope() {
    let scope = |url: &'static str, prefix: &'static str| {
        let values = Values::collect(
            |asked| match asked {
                "BESPEAK_DATABASE_URL" => Some(url.to_owned()),
                "BESPEAK_REDIS_PREFIX" => Some(prefix.to_owned()),
                _ => None,
            },
            |_| None,
        );
        Config::parse(&values).expect("valid").coordination.scope
    };
    let here = scope("mysql://ann:one@db:3306/books", "shop");
    assert!(here.starts_with("shop:") && !here.contains("one"), "{here}");
    assert_eq!(here, scope("mysql://bob:two@db/books", "shop"), "another account, and the default port");
    for other in ["mysql://ann:one@db:3307/books", "mysql://ann:one@db/other", "mysql://ann:one@db2/books"] {
        assert_ne!(here, scope(other, "shop"), "{other}");
    }
    assert_ne!(here, scope("mysql://ann:one@db:3306/books", "bespeak"));
}

#[test]
fn only_secret_settings_have_a_file() {
    for setting in SETTINGS {
        assert_eq!(setting.file_variable().is_some(), setting.is_secret(), "{}", setting.name);
    }
    let unknown = |name: &str| unknown_variables([name].into_iter()).len();
    assert_eq!(unknown("BESPEAK_KAFKA_PASSWORD_FILE"), 0);
    assert_eq!(unknown("BESPEAK_LISTEN_FILE"), 1);
}

#[test]
fn a_url_that_is_a_capability_is_shown_by_its_origin() {
    let setting = SETTINGS.iter().find(|setting| setting.name == "BESPEAK_WEBHOOK_URL").expect("known");
    let shown = |value: &'static str| values("BESPEAK_WEBHOOK_URL", value).shown(setting).0;
    assert_eq!(shown(""), "");
    assert_eq!(shown("https://hooks.example.com:8443/T0/xyz?key=abc"), "https://hooks.example.com:8443/***");
    assert_eq!(shown("no url"), "***");
}

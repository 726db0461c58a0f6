//! Secrets: from files, and never where others can see them.

use bespeak_tests::bespeak;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The value and the source of a setting, as `bespeak config` shows them.
fn shown(config: &serde_json::Value, name: &str) -> (String, String) {
    let settings = config.as_array().expect("settings");
    let setting = settings.iter().find(|setting| setting["name"] == name).expect("known");
    let text = |field: &str| setting[field].as_str().expect("text").to_owned();
    (text("value"), text("source"))
}

#[tokio::test]
async fn a_secret_may_be_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let secret = file("secret", &format!("{SECRET}\n"));
    let url = file("url", "mysql://bespeak:pass@127.0.0.1/books\n");
    let hook = file("hook", "https://hooks.example.com/services/T0/B0/xyz?key=abc");
    let environment = [
        ("BESPEAK_WEBHOOK_SECRET_FILE", secret.as_str()),
        ("BESPEAK_DATABASE_URL_FILE", &url),
        ("BESPEAK_WEBHOOK_URL_FILE", &hook),
    ];
    let output = bespeak(&["config", "--json"], &environment).await;
    assert_eq!((output.code, output.err.as_str()), (0, ""), "{output:?}");
    let config = output.json();
    let from_file = |value: &str| (value.to_owned(), "file".to_owned());
    assert_eq!(shown(&config, "BESPEAK_WEBHOOK_SECRET"), from_file("***"));
    assert_eq!(shown(&config, "BESPEAK_DATABASE_URL"), from_file("mysql://bespeak:***@127.0.0.1/books"));
    assert_eq!(shown(&config, "BESPEAK_WEBHOOK_URL"), from_file("https://hooks.example.com/***"));
    for (extra, reason) in [
        (("BESPEAK_WEBHOOK_SECRET", SECRET), "absent if BESPEAK_WEBHOOK_SECRET is set"),
        (("BESPEAK_WEBHOOK_SECRET_FILE", "/no/such/file"), "a file that can be read"),
    ] {
        let mut environment: Vec<_> = environment.into_iter().filter(|(name, _)| *name != extra.0).collect();
        environment.push(extra);
        let refused = bespeak(&["config"], &environment).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(
            refused.err.contains(reason) && refused.err.contains("BESPEAK_WEBHOOK_SECRET_FILE="),
            "{refused:?}"
        );
        assert!(!refused.err.contains(SECRET), "{refused:?}");
    }
    // Settings that are no secrets have no file
    let unknown = bespeak(&["config"], &[("BESPEAK_LISTEN_FILE", "x")]).await;
    assert!(unknown.err.contains("BESPEAK_LISTEN_FILE is not a setting"), "{unknown:?}");
}

#[tokio::test]
async fn a_secret_in_a_flag_causes_a_warning() {
    let warned = async |args: &[&str]| {
        let output = bespeak(&[&["config", "--json"], args].concat(), &[]).await;
        assert!(!output.out.contains("s3cret") && !output.err.contains("s3cret"), "{output:?}");
        output.err.contains("shows its secret to everybody")
    };
    assert!(warned(&["--kafka-password", "s3cret"]).await);
    assert!(warned(&["--database-url", "mysql://bespeak:s3cret@127.0.0.1/books"]).await);
    assert!(warned(&["--webhook-url", "https://example.com/s3cret"]).await);
    assert!(!warned(&["--database-url", "sqlite://books.db"]).await);
    assert!(!warned(&["--listen", "127.0.0.1:0"]).await);
}

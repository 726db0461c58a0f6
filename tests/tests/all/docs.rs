//! Generated pages are what the programs print.

use std::path::PathBuf;

use bespeak_tests::bespeak;

#[tokio::test]
async fn generated_pages_are_up_to_date() {
    for (page, command) in [
        ("docs/configuration.md", &["config", "--markdown"][..]),
        ("docs/api.md", &["openapi", "--markdown"]),
        ("docs/openapi.json", &["openapi"]),
        ("docs/events/asyncapi.json", &["asyncapi"]),
    ] {
        let printed = bespeak(command, &[]).await;
        assert_eq!(printed.code, 0, "{printed:?}");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let line = written.lines().zip(printed.out.lines()).position(|(written, printed)| written != printed);
        assert!(
            written == printed.out,
            "{page} is not what `bespeak {}` prints (first difference after line {}): run `cargo xtask docs`",
            command.join(" "),
            line.unwrap_or_else(|| written.lines().count())
        );
    }
}

#[tokio::test]
async fn the_openapi_document_is_printed_without_a_server() {
    let document = bespeak(&["openapi"], &[("BESPEAK_QUANTITY_MAX", "7")]).await;
    assert_eq!(document.code, 0, "{document:?}");
    let document = document.json();
    assert_eq!(document["info"]["title"], "Bespeak");
    // The contract has no limits of a deployment, whatever this environment configures.
    assert!(
        document["info"]["x-limits"].is_null() && !document.to_string().contains("\"maximum\":7,"),
        "{document}"
    );
}

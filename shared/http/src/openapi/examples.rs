//! Examples of requests and answers, in the shapes of real ones.

use serde_json::{Value, json};

/// Adds the examples of requests, answers and problems.
pub(super) fn add(document: &mut Value) {
    let request =
        |operation: &str| format!("/paths/{}/post/requestBody/content/application~1json", escaped(operation));
    let answer = |operation: &str, method: &str, status: &str, media_type: &str| {
        format!("/paths/{}/{method}/responses/{status}/content/{}", escaped(operation), escaped(media_type))
    };
    let (json_type, problem_type) = ("application/json", "application/problem+json");
    let one = json!({"resourceId": "room-101", "quantity": 1, "ttlSeconds": 300, "holder": "customer-17"});
    let several = json!({
        "items": [{"resourceId": "room-101", "quantity": 1}, {"resourceId": "parking", "quantity": 2}],
        "metadata": {"order": 4711},
    });
    let reservation = json!({
        "token": "01890a5d-ac96-774b-bcce-b302099a8057",
        "resourceId": "room-101",
        "quantity": 1,
        "items": [{"resourceId": "room-101", "quantity": 1}],
        "status": "HELD",
        "expiresAt": "2026-01-01T00:05:00Z",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "version": 1,
        "holder": "customer-17",
    });
    let out_of_stock = json!({
        "type": "out-of-stock",
        "status": 409,
        "title": "Out of stock",
        "detail": "3 units of room-101 requested, 1 available",
        "resourceId": "room-101",
        "requested": 3,
        "availableStock": 1,
        "nextReleaseAt": "2026-01-01T00:05:00Z",
    });
    let page = json!({
        "resources": [{
            "resourceId": "room-101",
            "totalStock": 2,
            "availableStock": 1,
            "version": 2,
            "updatedAt": "2026-01-01T00:00:00Z",
            "fulfilment": "NONE",
        }],
        "next": "room-101",
    });
    for (pointer, name, summary, value) in [
        (request("/api/v1/reserve"), "one", "Hold one resource", one),
        (request("/api/v1/reserve"), "several", "Hold several resources, all or nothing", several),
        (answer("/api/v1/reserve", "post", "200", json_type), "held", "The units are held", reservation),
        (answer("/api/v1/reserve", "post", "409", problem_type), "outOfStock", "Sold out", out_of_stock),
        (answer("/api/v1/resources", "get", "200", json_type), "page", "A page with a next page", page),
    ] {
        let content = document.pointer_mut(&pointer);
        debug_assert!(content.is_some(), "the document has no {pointer}");
        if let Some(content) = content {
            content["examples"][name] = json!({"summary": summary, "value": value});
        }
    }
}

fn escaped(segment: &str) -> String {
    segment.replace('/', "~1")
}

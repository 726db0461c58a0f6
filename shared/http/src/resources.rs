//! Define, show and list resources.

use axum::{
    Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
};
use bespeak::{
    engine::{Define, Fulfilment, ResourceId},
    store::Page,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    body::JsonBody,
    problem::{Problem, ProblemBody},
    query,
    router::Api,
    views::{ResourcePage, ResourceView},
};

/// A resource and its total.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefineRequest {
    #[schema(example = "room-101", max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")]
    resource_id: String,
    /// Units in all, held and committed ones included.
    #[schema(example = 10)]
    total_stock: u64,
    /// What a commit sets off: `NONE` or `SMART_KEY`. Left as it is where not given.
    #[schema(example = "NONE")]
    fulfilment: Option<String>,
}

/// Create a resource, or set its total.
#[utoipa::path(post, path = "/api/v1/resources", tag = "resources", request_body = DefineRequest,
    responses(
        (status = 200, body = ResourceView),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "stock-in-use: the total would fall below what is held or committed"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn define(
    State(api): State<Api>,
    JsonBody(request): JsonBody<DefineRequest>,
) -> Result<Json<ResourceView>, Problem> {
    let define = Define {
        resource_id: ResourceId::new("resourceId", &request.resource_id)?,
        total: api.app.limits().total("totalStock", request.total_stock)?,
        fulfilment: request.fulfilment.map(|text| Fulfilment::parse("fulfilment", &text)).transpose()?,
    };
    Ok(Json(api.app.define(define).await?.resource.into()))
}

/// A resource as it is now.
#[utoipa::path(get, path = "/api/v1/resources/{id}", tag = "resources",
    params(("id" = String, Path, description = "The resource's id; a slash is written %2F")),
    responses(
        (status = 200, body = ResourceView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "resource-not-found"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn show(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ResourceView>, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::invalid("resourceId", rejection.body_text()))?;
    show_one(&api, &id).await
}

/// The resource that is called as the import's path is.
pub(crate) async fn show_import(State(api): State<Api>) -> Result<Json<ResourceView>, Problem> {
    show_one(&api, "import").await
}

async fn show_one(api: &Api, id: &str) -> Result<Json<ResourceView>, Problem> {
    let id = ResourceId::new("resourceId", id)?;
    match api.app.resource(&id).await? {
        Some(resource) => Ok(Json(resource.into())),
        None => Err(Problem::no_resource(id.as_str())),
    }
}

/// Resources in id order, a page at a time.
#[utoipa::path(get, path = "/api/v1/resources", tag = "resources",
    params(
        ("limit" = Option<u32>, Query, description = "Resources on the page: 1 to 1000, 100 where not given"),
        ("after" = Option<String>, Query, description = "Start after this id: the `next` of the page before"),
    ),
    responses(
        (status = 200, body = ResourcePage),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
    ))]
pub(crate) async fn list(
    State(api): State<Api>,
    RawQuery(asked): RawQuery,
) -> Result<Json<ResourcePage>, Problem> {
    let mut page = Page { after: None, limit: query::PAGE_DEFAULT };
    for (name, value) in query::parameters(asked.as_deref()) {
        match &*name {
            "limit" => page.limit = query::limit(&value)?,
            "after" => page.after = Some(ResourceId::new("after", &value)?),
            other => return Err(query::unknown(other, "limit, after")),
        }
    }
    // One more than asked for tells whether there is a next page.
    let asked = page.limit as usize;
    page.limit += 1;
    let mut resources = api.app.resources(&page).await?;
    let more = resources.len() > asked;
    resources.truncate(asked);
    let next = if more { resources.last().map(|last| last.id.to_string()) } else { None };
    Ok(Json(ResourcePage { resources: resources.into_iter().map(ResourceView::from).collect(), next }))
}

//! The operations on resources: define, show, list.

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
    enums,
    problem::{Problem, problems},
    query::{self, PageLimit},
    state::Api,
    views::{ResourcePage, ResourceView},
    whole::Whole,
};

/// A resource and its total stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefineRequest {
    #[schema(example = "room-101", max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")]
    resource_id: String,
    /// The total number of units, including those that are held or committed.
    #[schema(example = 10, value_type = u64)]
    total_stock: Whole,
    /// The effect of a commit. Without it, the resource keeps its present value.
    #[schema(value_type = Option<enums::Fulfilment>)]
    fulfilment: Option<String>,
}

problems!(DefineProblems: StockInUse, InvalidValue);
problems!(ShowProblems: ResourceNotFound, InvalidValue);
problems!(ListProblems: InvalidValue);

/// Create a resource, or set its total stock.
#[utoipa::path(post, path = "/api/v1/resources", tag = "resources", request_body = DefineRequest,
    responses((status = 200, body = ResourceView), DefineProblems))]
pub(crate) async fn define(
    State(api): State<Api>,
    JsonBody(request): JsonBody<DefineRequest>,
) -> Result<Json<ResourceView>, Problem> {
    let define = Define {
        resource_id: ResourceId::new("resourceId", &request.resource_id)?,
        total: api.app.limits().total("totalStock", request.total_stock.0)?,
        fulfilment: request.fulfilment.map(|text| Fulfilment::parse("fulfilment", &text)).transpose()?,
    };
    Ok(Json(api.app.define(define).await?.resource.into()))
}

/// Get the present state of a resource.
#[utoipa::path(get, path = "/api/v1/resources/{id}", tag = "resources",
    params(("id" = String, Path, description = "The id of the resource; a slash is written as %2F")),
    responses((status = 200, body = ResourceView), ShowProblems))]
pub(crate) async fn show(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ResourceView>, Problem> {
    let Path(id) = id.map_err(|rejection| Problem::invalid("resourceId", rejection.body_text()))?;
    show_one(&api, &id).await
}

/// Get the present state of the resource with the id `import`.
///
/// A resource may have this id. Its path is that of the import, with another method.
#[utoipa::path(get, path = "/api/v1/resources/import", tag = "resources",
    responses((status = 200, body = ResourceView), ShowProblems))]
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

/// List resources in the order of their ids, one page at a time.
#[utoipa::path(get, path = "/api/v1/resources", tag = "resources",
    params(
        ("limit" = Option<u32>, Query, description = "The number of resources on the page: 1 to 1000, by default 100"),
        ("after" = Option<String>, Query, description = "Start after this id: the `next` of the previous page"),
    ),
    responses((status = 200, body = ResourcePage), ListProblems))]
pub(crate) async fn list(
    State(api): State<Api>,
    RawQuery(given): RawQuery,
) -> Result<Json<ResourcePage>, Problem> {
    let (mut limit, mut after) = (PageLimit::default(), None);
    for (name, value) in query::parameters(given.as_deref())? {
        match &*name {
            "limit" => limit = PageLimit::parse(&value)?,
            "after" => after = Some(ResourceId::new("after", &value)?),
            other => return Err(query::unknown(other, "limit, after")),
        }
    }
    let rows = api.app.resources(&Page { after, limit: limit.rows_to_read() }).await?;
    let page = query::page(rows, limit, |last| last.id.to_string());
    Ok(Json(ResourcePage {
        resources: page.rows.into_iter().map(ResourceView::from).collect(),
        next: page.next,
    }))
}

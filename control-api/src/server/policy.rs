//! Reads and writes the policy: conditional requests (RFC 9110 §13), merge patches, dry runs, rollbacks.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::access::Caller;
use super::api::{Api, json};
use super::refusal::Refusal;
use crate::document::{Document, DocumentError, changes, json_value, merge_patch};
use crate::store::{Active, Expected, Outcome, Stale, Store, Written};
use crate::view::{Applied, Items, Origin};

/// How a write is to be done.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct WriteQuery {
    /// Say what would happen, and do nothing.
    dry_run: bool,
}

type Queried = Result<Query<WriteQuery>, QueryRejection>;
type Body = Result<Bytes, BytesRejection>;
type Numbered = Result<Path<u64>, PathRejection>;

/// `GET /v1/policy`
pub(super) async fn read(State(api): State<Api>, headers: HeaderMap) -> Response {
    let active = api.store.current();
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| names(value, active.revision));
    if known {
        return (
            StatusCode::NOT_MODIFIED,
            [(header::ETAG, tag(active.revision))],
        )
            .into_response();
    }
    tagged(active.revision, json(&active.document))
}

/// `PUT /v1/policy`
pub(super) async fn replace(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Queried,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    check_media_type(&headers, &JSON_TYPES)?;
    let text = body_text(body)?;
    let write = Write::of(&api.store, caller, query, &headers)?;
    blocking(move || {
        write.check_precondition(&api.store)?;
        let document = write.parsed(&api.store, || Document::from_value(&json_value(&text)?))?;
        write.apply(&api.store, document)
    })
    .await
}

/// `PATCH /v1/policy`, a merge patch (RFC 7396)
pub(super) async fn patch(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Queried,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    check_media_type(&headers, &PATCH_TYPES)?;
    let text = body_text(body)?;
    let write = Write::of(&api.store, caller, query, &headers)?;
    blocking(move || {
        write.check_precondition(&api.store)?;
        let patch = write.parsed(&api.store, || json_value(&text))?;
        for _ in 0..PATCH_TRIES {
            let base = api.store.current();
            let merged = merge_patch(base.document.to_value(), &patch);
            let document = write.parsed(&api.store, || Document::from_value(&merged))?;
            let on_base = Write {
                expected: match write.expected {
                    Expected::Anything => Expected::Revision(base.revision),
                    expected @ Expected::Revision(_) => expected,
                },
                ..write
            };
            match on_base.apply(&api.store, document) {
                // Another writer came between; whoever patches any revision patches the new one.
                Err(Refusal::Stale(_)) if write.expected == Expected::Anything => {}
                done => return done,
            }
        }
        Err(Refusal::Late)
    })
    .await
}

/// `GET /v1/revisions`
pub(super) async fn revisions(State(api): State<Api>) -> Response {
    json(&Items {
        items: api.store.revisions(),
    })
}

/// `GET /v1/revisions/{revision}`
pub(super) async fn revision(
    State(api): State<Api>,
    revision: Numbered,
) -> Result<Response, Refusal> {
    let revision = number(revision)?;
    let document = api.store.document(revision);
    let document = document.ok_or(Refusal::NoRevision(revision))?;
    Ok(tagged(revision, json(&document)))
}

/// `POST /v1/revisions/{revision}/rollback`
pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    revision: Numbered,
    query: Queried,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let revision = number(revision)?;
    let mut write = match Write::of(&api.store, caller, query, &headers) {
        // The revision to go back to is named, so nothing is overwritten by accident.
        Err(Refusal::Unconditional(_)) => Write::by(caller),
        write => write?,
    };
    write.rollback_of = Some(revision);
    blocking(move || {
        let document = api.store.document(revision);
        write.apply(&api.store, document.ok_or(Refusal::NoRevision(revision))?)
    })
    .await
}

/// A write as it was asked for.
#[derive(Debug, Clone, Copy)]
struct Write {
    dry_run: bool,
    expected: Expected,
    author_uid: Option<u32>,
    rollback_of: Option<u64>,
}

impl Write {
    fn by(caller: Caller) -> Self {
        Self {
            dry_run: false,
            expected: Expected::Anything,
            author_uid: caller.uid,
            rollback_of: None,
        }
    }

    fn of(
        store: &Store,
        caller: Caller,
        query: Queried,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let Query(query) = query.map_err(|rejection| Refusal::Malformed(rejection.body_text()))?;
        let current = store.current().revision;
        let expected = match headers.get(header::IF_MATCH) {
            Some(value) => expected(value, current)?,
            None if query.dry_run => Expected::Anything,
            None => return Err(Refusal::Unconditional(current)),
        };
        Ok(Self {
            dry_run: query.dry_run,
            expected,
            ..Self::by(caller)
        })
    }

    /// RFC 9110 §13.2: preconditions come before the body is looked at. The write itself checks again, under its lock.
    fn check_precondition(&self, store: &Store) -> Result<(), Refusal> {
        let current = store.current().revision;
        match self.expected {
            Expected::Revision(revision) if revision != current => Err(Refusal::Stale(current)),
            Expected::Revision(_) | Expected::Anything => Ok(()),
        }
    }

    /// What `parse` makes of the body; what it refuses is counted, unless it was only tried.
    fn parsed<T>(
        &self,
        store: &Store,
        parse: impl FnOnce() -> Result<T, DocumentError>,
    ) -> Result<T, Refusal> {
        parse().map_err(|error| {
            if !self.dry_run {
                store.rejected(Origin::Api, &error);
            }
            Refusal::Document(error)
        })
    }

    fn apply(&self, store: &Store, document: Document) -> Result<Response, Refusal> {
        let warnings = document.warnings();
        let outcome = if self.dry_run {
            self.check_precondition(store)?;
            tried(store, &document)
        } else {
            let written = Written {
                author_uid: self.author_uid,
                rollback_of: self.rollback_of,
                ..Written::now(Origin::Api)
            };
            store
                .apply(document, written, self.expected)
                .map_err(|Stale { current }| Refusal::Stale(current))?
        };
        let Active { revision, .. } = *outcome.active;
        let applied = Applied {
            revision,
            dry_run: self.dry_run,
            changes: outcome.changes,
            warnings,
        };
        Ok(tagged(revision, json(&applied)))
    }
}

/// What applying would change; the compiling is part of the trial.
fn tried(store: &Store, document: &Document) -> Outcome {
    drop(document.compile());
    let active = store.current();
    let changes = changes(&active.document.to_value(), &document.to_value());
    Outcome { active, changes }
}

/// Parsing and keeping a policy may take long and block on a disk; the API's thread must not.
async fn blocking(
    work: impl FnOnce() -> Result<Response, Refusal> + Send + 'static,
) -> Result<Response, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "a write of the policy failed");
            Err(Refusal::Failed)
        }
    }
}

fn number(revision: Numbered) -> Result<u64, Refusal> {
    let Path(revision) = revision.map_err(|rejection| Refusal::Malformed(rejection.body_text()))?;
    Ok(revision)
}

/// The body as text.
pub(super) fn body_text(body: Body) -> Result<String, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Malformed(rejection.body_text()),
    })?;
    String::from_utf8(body.into()).map_err(|error| Refusal::Malformed(error.to_string()))
}

/// A body without a type is taken as what is expected; `curl --data` without a header has a wrong one.
pub(super) fn check_media_type(headers: &HeaderMap, known: &[&'static str]) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if known
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
    {
        return Ok(());
    }
    Err(Refusal::MediaType(
        known.first().copied().unwrap_or_default(),
    ))
}

/// Which revision an `If-Match` allows to be replaced, given the one in force.
fn expected(value: &HeaderValue, current: u64) -> Result<Expected, Refusal> {
    let Some(tags) = entity_tags(value) else {
        return Ok(Expected::Anything);
    };
    if tags.contains(&current) {
        return Ok(Expected::Revision(current));
    }
    // None of them is in force, so any of them makes the write fail as it should.
    match tags.first() {
        Some(tag) => Ok(Expected::Revision(*tag)),
        None => Err(Refusal::Malformed(
            "If-Match: expected a revision in quotes, such as \"7\", or *".to_owned(),
        )),
    }
}

/// Whether `If-None-Match` names a revision. RFC 9110 §13.1.2: weak tags count here.
fn names(value: &HeaderValue, revision: u64) -> bool {
    let text = value.to_str().unwrap_or_default();
    let names_it = |tag: &str| {
        let tag = tag.trim().trim_start_matches("W/");
        tag.trim_matches('"').parse() == Ok(revision)
    };
    text.trim() == "*" || text.split(',').any(names_it)
}

/// The revisions in a list of entity tags; those that are none of ours are left out. None: `*`, any revision.
fn entity_tags(value: &HeaderValue) -> Option<Vec<u64>> {
    let text = value.to_str().unwrap_or_default();
    if text.trim() == "*" {
        return None;
    }
    let revision = |tag: &str| tag.trim().trim_matches('"').parse().ok();
    Some(text.split(',').filter_map(revision).collect())
}

fn tagged(revision: u64, mut response: Response) -> Response {
    response.headers_mut().insert(header::ETAG, tag(revision));
    response
}

fn tag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Media types of a document, the preferred one first.
pub(super) const JSON_TYPES: [&str; 1] = ["application/json"];
/// Media types of a patch, the preferred one first.
const PATCH_TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];
/// How often a patch of any revision is tried again because another writer came between.
const PATCH_TRIES: usize = 16;

//! What a diagnosis asks the API server. Nothing is changed by it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::Cluster;
use super::manifest::Manifest;
use crate::error::{Error, ErrorKind, Result};

impl Cluster {
    /// The API server as messages name it.
    pub(crate) fn server(&self) -> &str {
        &self.api.server
    }

    /// Whom the API server takes this client for.
    pub(crate) async fn user(&self) -> Result<String> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let found = self.ask("/apis/authentication.k8s.io/v1/selfsubjectreviews", Some(&review)).await?;
        Ok(text(&found["status"]["userInfo"]["username"]))
    }

    /// Whether this client may do something with a resource, such as `pods/exec`, of the namespace.
    pub(crate) async fn may(&self, verb: &str, resource: &str) -> Result<bool> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = json!({
            "namespace": self.namespace(), "verb": verb, "resource": resource, "subresource": subresource,
        });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let found = self.ask("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Some(&review)).await?;
        Ok(found["status"]["allowed"] == true)
    }

    /// The phase and the labels of the namespace.
    pub(crate) async fn namespace_state(&self) -> Result<(String, BTreeMap<String, String>)> {
        let found = self.ask(&format!("/api/v1/namespaces/{}", self.namespace()), None).await?;
        let labels = serde_json::from_value(found["metadata"]["labels"].clone()).unwrap_or_default();
        Ok((text(&found["status"]["phase"]), labels))
    }

    pub(crate) async fn quotas(&self) -> Result<Vec<Value>> {
        self.items("/api/v1", "resourcequotas").await
    }

    pub(crate) async fn network_policies(&self) -> Result<Vec<Value>> {
        self.items("/apis/networking.k8s.io/v1", "networkpolicies").await
    }

    /// Whether the cluster would take this Pod: all of admission, without a Pod.
    pub(crate) async fn would_take(&self, manifest: &Manifest) -> Result<()> {
        let path = format!("{}?dryRun=All&fieldValidation=Strict", self.pods_url());
        let request = Self::question(&path, Some(&manifest.pod))?;
        match self.api.send::<Value>(&request, Duration::ZERO).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.create_error(failure)),
        }
    }

    async fn items(&self, group: &str, resource: &str) -> Result<Vec<Value>> {
        let found = self.ask(&format!("{group}/namespaces/{}/{resource}", self.namespace()), None).await?;
        Ok(found["items"].as_array().cloned().unwrap_or_default())
    }

    async fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = Self::question(path, body)?;
        self.api.send(&request, Duration::ZERO).await.map_err(|failure| self.api.error(failure))
    }

    fn question(path: &str, body: Option<&Value>) -> Result<Request<Vec<u8>>> {
        let built = match body {
            Some(body) => Request::post(path)
                .header(CONTENT_TYPE, "application/json")
                .body(serde_json::to_vec(body).unwrap_or_default()),
            None => Request::get(path).body(Vec::new()),
        };
        built.map_err(|e| Error::new(ErrorKind::InvalidArgument, e.to_string()))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

//! Somebody who orders.

use anyhow::Context as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Service, World};

/// What a customer wants; everything has a default.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The article.
    pub sku: String,
    /// How many pieces.
    pub quantity: i64,
    /// The payment method's token.
    pub payment_method: String,
    /// Where it goes.
    pub country: String,
    /// The idempotency key, if any.
    pub key: Option<String>,
}

impl Wish {
    /// One piece of an article, paid by a good card.
    pub fn of(sku: &str) -> Self {
        Self {
            sku: sku.into(),
            quantity: 1,
            payment_method: "pm_card_visa".into(),
            country: "DE".into(),
            key: None,
        }
    }

    /// Paid by another card.
    #[must_use]
    pub fn paid_by(self, token: &str) -> Self {
        Self {
            payment_method: token.into(),
            ..self
        }
    }

    /// Sent to another country.
    #[must_use]
    pub fn to(self, country: &str) -> Self {
        Self {
            country: country.into(),
            ..self
        }
    }

    /// So many pieces.
    #[must_use]
    pub fn pieces(self, quantity: i64) -> Self {
        Self { quantity, ..self }
    }

    /// Under an idempotency key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    /// What is sent.
    pub fn body(&self) -> Value {
        json!({
            "customer": { "id": "0198a8a0-0000-7000-8000-000000000001", "email": "ada@example.com" },
            "lines": [{ "sku": self.sku, "quantity": self.quantity }],
            "ship_to": {
                "name": "Ada Lovelace", "street": "12 St James's Square", "city": "London",
                "postal_code": "SW1Y", "country": self.country,
            },
            "payment_method": self.payment_method,
        })
    }
}

impl World {
    /// Sends the wish once.
    pub async fn order_once(&self, wish: &Wish) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self
            .http
            .post(format!("{}/v1/orders", self.shop.url(Service::Order)))
            .json(&wish.body());
        if let Some(key) = &wish.key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await?;
        Ok((response.status(), response.json().await?))
    }

    /// Places an order that must be accepted.
    pub async fn place(&self, wish: &Wish) -> Uuid {
        let (status, body) = self.order_once(wish).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(status, StatusCode::CREATED, "{body}");
        id_of(&body).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Places an order as a careful client does: under a key, again and again until there is an answer.
    pub async fn place_stubbornly(&self, wish: &Wish) -> anyhow::Result<Uuid> {
        let wish = Wish {
            key: wish.key.clone().or_else(|| Some(Uuid::now_v7().to_string())),
            ..wish.clone()
        };
        self.until("the order is accepted", || async {
            let (status, body) = self.order_once(&wish).await?;
            anyhow::ensure!(status == StatusCode::CREATED, "{status}: {body}");
            id_of(&body).map(Some)
        })
        .await
    }

    /// Asks for goods to be taken back, once.
    pub async fn return_once(&self, id: Uuid, lines: &[(&str, i64)]) -> anyhow::Result<(StatusCode, Value)> {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity }))
            .collect();
        let url = format!("{}/v1/orders/{id}/returns", self.shop.url(Service::Order));
        let wish = json!({ "lines": lines, "reason": "changed my mind" });
        let response = self.http.post(url).json(&wish).send().await?;
        Ok((response.status(), response.json().await?))
    }

    /// Sends goods back, which must be accepted.
    pub async fn send_back(&self, id: Uuid, lines: &[(&str, i64)]) -> Uuid {
        let asked = self.return_once(id, lines).await;
        let (status, body) = asked.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let id = body["return_id"].as_str().and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("a return without an id: {body}"))
    }

    /// A return once it is in this state.
    pub async fn returned(&self, order: Uuid, id: Uuid, state: &str) -> Value {
        let path = format!("/v1/orders/{order}/returns/{id}");
        let what = format!("return {id} is {state}");
        let looked = self.until(&what, || async {
            let found = self.get(Service::Order, &path).await?;
            Ok((found["state"] == state).then_some(found))
        });
        looked.await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Asks for the order to be undone.
    pub async fn cancel(&self, id: Uuid) -> anyhow::Result<(StatusCode, Value)> {
        let response = self
            .http
            .post(format!("{}/v1/orders/{id}/cancel", self.shop.url(Service::Order)))
            .send()
            .await?;
        Ok((response.status(), response.json().await?))
    }
}

fn id_of(body: &Value) -> anyhow::Result<Uuid> {
    Ok(body["id"].as_str().context("no id")?.parse()?)
}

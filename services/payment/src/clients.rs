//! What payment asks of others: the gateway, through the part of Stripe's API that takes money and gives it back.

mod budget;
mod failure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chassis::{Breaker, client};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Request, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use budget::RetryBudget;
pub use failure::Failure;

/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 256 << 10;
/// The longest that the gateway's `Retry-After` is obeyed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The payment gateway; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    client: Client,
    url: Url,
    key: SecretString,
    call_within: Duration,
    breaker: Arc<Breaker>,
    retries: Arc<RetryBudget>,
}

/// What is to be charged.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Also the idempotency key: the same payment is charged once, however often it is asked for.
    pub payment_id: Uuid,
    /// By which the charge is found again.
    pub order_id: Uuid,
    /// In minor units.
    pub amount: i64,
    /// Currency of the amount.
    pub currency: String,
    /// The gateway's token.
    pub payment_method: String,
}

/// Where a payment stands at the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The money was taken.
    Charged {
        /// What the gateway calls it.
        id: String,
    },
    /// The gateway said no.
    Declined {
        /// What the gateway calls it, if it keeps it at all.
        id: Option<String>,
        /// Its word for why.
        code: String,
    },
    /// Nothing was taken yet.
    Open {
        /// What the gateway calls it.
        id: String,
    },
    /// Nothing was taken, and nothing will be.
    Canceled,
}

/// Whose doing it is when no answer comes in time.
#[derive(PartialEq, Eq)]
enum Late {
    /// Behind a charge stands a card's issuer, who may take longer than we wait.
    MayBeTheCards,
    IsTheGateways,
}

/// A whole answer, whatever it says.
struct Answer {
    status: StatusCode,
    retry_after: Duration,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct Intent {
    id: String,
    status: String,
    last_payment_error: Option<Problem>,
}

#[derive(Deserialize)]
struct Refused {
    error: Problem,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
}

impl Gateway {
    /// The gateway at this address; a call that takes longer counts as unanswered.
    pub fn at(url: &Url, key: SecretString, call_within: Duration) -> anyhow::Result<Self> {
        ensure!(
            url.scheme() == "http",
            "GATEWAY_URL: {} is not spoken here, only http: end TLS in front of the gateway",
            url.scheme()
        );
        Ok(Self {
            client: client::client(call_within)?,
            url: url.join("/v1/").context("GATEWAY_URL")?,
            key,
            call_within,
            breaker: Arc::new(Breaker::before("gateway")),
            retries: Arc::default(),
        })
    }

    /// Whether one more attempt may be made now; the first always may.
    pub fn may_try(&self, attempt: i32) -> bool {
        self.retries.admit(attempt > 1, Instant::now())
    }

    /// Whether calls may go out.
    ///
    /// Only calls without an answer count. An error that the gateway answers with, even a 503, may be the trouble of
    /// one card, and so may a charge that takes too long: the customers with the other cards must not wait for it. A
    /// gateway that hangs is found out by the look-ups that follow such charges.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Charges, or says what became of the charge that was asked for before.
    pub async fn charge(&self, charge: &Charge) -> Result<Standing, Failure> {
        let form = [
            ("amount", charge.amount.to_string()),
            ("currency", charge.currency.to_ascii_lowercase()),
            ("payment_method", charge.payment_method.clone()),
            ("payment_method_types[]", "card".to_owned()),
            ("confirm", "true".to_owned()),
            // Nobody sits in front of a screen who could confirm anything.
            ("error_on_requires_action", "true".to_owned()),
            ("metadata[order_id]", charge.order_id.to_string()),
        ];
        let request = self
            .post("payment_intents")?
            .header("idempotency-key", charge.payment_id.to_string());
        let answer = self
            .call(request.form(&form), "/v1/payment_intents", Late::MayBeTheCards)
            .await?;
        if answer.status.is_success() {
            return Ok(answer.read::<Intent>()?.standing());
        }
        let Problem {
            kind,
            code,
            decline_code,
            param,
        } = answer.problem();
        match (answer.status, kind.as_deref()) {
            (StatusCode::PAYMENT_REQUIRED, _) => Ok(Standing::Declined {
                id: None,
                code: decline_word(decline_code.or(code)),
            }),
            (_, Some("idempotency_error")) => {
                tracing::error!(order_id = %charge.order_id, "the gateway knows another charge under this payment's key");
                Err(Failure::new("gateway_conflict", true))
            }
            (StatusCode::BAD_REQUEST, Some("invalid_request_error")) => {
                tracing::error!(order_id = %charge.order_id, code, param, "the gateway refuses a charge as malformed");
                Ok(Standing::Declined {
                    id: None,
                    code: "invalid_payment_method".to_owned(),
                })
            }
            _ => Err(answer.refused()),
        }
    }

    /// Where the order's payment stands, or none when the gateway has not heard of it.
    pub async fn look_up(&self, order_id: Uuid) -> Result<Option<Standing>, Failure> {
        #[derive(Deserialize)]
        struct Found {
            data: Vec<Intent>,
        }
        let query = format!("metadata['order_id']:'{order_id}'");
        let request = self
            .client
            .get(self.at_path("payment_intents/search")?)
            .query(&[("query", query)]);
        let answer = self
            .call(request, "/v1/payment_intents/search", Late::IsTheGateways)
            .await?;
        let mut found = answer.succeeded()?.read::<Found>()?.data;
        // There is only one under our key; should somebody have made another by hand, money taken counts most.
        found.sort_by_key(|intent| intent.status != "succeeded");
        Ok(found.into_iter().next().map(Intent::standing))
    }

    /// Makes sure that a payment that took nothing never will.
    pub async fn cancel(&self, id: &str, payment_id: Uuid) -> Result<(), Failure> {
        let request = self.post(&format!("payment_intents/{id}/cancel"))?;
        let request = request.header("idempotency-key", format!("{payment_id}-cancel"));
        let answer = self
            .call(request, "/v1/payment_intents/{id}/cancel", Late::IsTheGateways)
            .await?;
        answer.succeeded().map(drop)
    }

    /// Gives the money back, or says that it did so before; the answer is what the gateway calls the refund.
    pub async fn refund(&self, refund_id: Uuid, charge: &str, amount: i64) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Refund {
            id: String,
        }
        let form = [("payment_intent", charge.to_owned()), ("amount", amount.to_string())];
        let request = self.post("refunds")?.header("idempotency-key", refund_id.to_string());
        let answer = self
            .call(request.form(&form), "/v1/refunds", Late::IsTheGateways)
            .await?;
        // By an operator, or by us before the gateway forgot our key: the money is back, which is all that is wanted.
        if !answer.status.is_success() && answer.problem().code.as_deref() == Some("charge_already_refunded") {
            tracing::warn!(charge, "this charge had been refunded before");
            return Ok(charge.to_owned());
        }
        // A card that was closed, a charge in dispute: its word is in the log, and a human has to see to it.
        if matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::PAYMENT_REQUIRED) {
            let _ = answer.refused();
            return Err(Failure::REFUSED);
        }
        Ok(answer.succeeded()?.read::<Refund>()?.id)
    }

    fn post(&self, path: &str) -> Result<RequestBuilder, Failure> {
        Ok(self.client.post(self.at_path(path)?))
    }

    fn at_path(&self, path: &str) -> Result<Url, Failure> {
        self.url
            .join(path)
            .map_err(|_| Failure::new("gateway_misconfigured", false))
    }

    /// Sends a request and reads its answer; those that say nothing about what was asked are failures.
    async fn call(&self, request: RequestBuilder, route: &str, late: Late) -> Result<Answer, Failure> {
        let request = request.bearer_auth(self.key.expose_secret()).timeout(self.call_within);
        let request = request
            .build()
            .map_err(|_| Failure::new("gateway_misconfigured", false))?;
        let answer = match self.send(request, route).await {
            Ok(answer) => {
                self.breaker.answered(Instant::now());
                answer
            }
            Err(failure) => {
                if failure != Failure::TIMEOUT || late == Late::IsTheGateways {
                    self.breaker.unanswered(Instant::now());
                }
                return Err(failure);
            }
        };
        let failure = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => Failure::new("gateway_busy", false),
            // A call under the same key is still under way.
            StatusCode::CONFLICT => Failure::UNDECIDED,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::error!(
                    status = answer.status.as_u16(),
                    "the gateway refuses our key: check GATEWAY_KEY"
                );
                Failure::new("gateway_misconfigured", false)
            }
            status if status.is_server_error() => Failure::new("gateway_unavailable", false),
            _ => return Ok(answer),
        };
        Err(Failure {
            retry_after: answer.retry_after,
            ..failure
        })
    }

    async fn send(&self, request: Request, route: &str) -> Result<Answer, Failure> {
        let sent = client::send(&self.client, request, "gateway", route).await;
        let mut response = sent.map_err(|error| unanswered(&error))?;
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unanswered(&error))? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Failure::new("gateway_unreadable", true));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            retry_after: retry_after
                .map_or(Duration::ZERO, Duration::from_secs)
                .min(LONGEST_PAUSE),
            body,
        })
    }
}

/// What never reached the gateway did nothing; of all else nobody knows.
fn unanswered(error: &reqwest::Error) -> Failure {
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => Failure::UNREACHABLE,
        (false, true) => Failure::TIMEOUT,
        (false, false) => Failure::new("gateway_unavailable", true),
    }
}

impl Answer {
    fn succeeded(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(self.refused())
    }

    /// For anything that is nobody's card's fault: a wrong address, a wrong version, a bug.
    fn refused(&self) -> Failure {
        let Problem { code, param, .. } = self.problem();
        tracing::error!(
            status = self.status.as_u16(),
            code,
            param,
            "the gateway refuses a request"
        );
        Failure::new("gateway_refuses", false)
    }

    fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            tracing::error!(%error, "the gateway's answer cannot be read");
            Failure::new("gateway_unreadable", true)
        })
    }

    fn problem(&self) -> Problem {
        serde_json::from_slice::<Refused>(&self.body).map_or_else(|_| Problem::default(), |refused| refused.error)
    }
}

impl Intent {
    fn standing(self) -> Standing {
        let Self {
            id,
            status,
            last_payment_error,
        } = self;
        match (status.as_str(), last_payment_error) {
            ("succeeded", _) => Standing::Charged { id },
            ("canceled", _) => Standing::Canceled,
            ("requires_payment_method", Some(problem)) => Standing::Declined {
                id: Some(id),
                code: decline_word(problem.decline_code.or(problem.code)),
            },
            _ => Standing::Open { id },
        }
    }
}

/// One of the gateway's words, fit to be told on.
fn decline_word(word: Option<String>) -> String {
    let legal = |word: &String| {
        (1..=64).contains(&word.len())
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    word.filter(legal).unwrap_or_else(|| "card_declined".to_owned())
}

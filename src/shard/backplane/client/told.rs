//! What the client's owner is told.

use std::collections::VecDeque;

use super::{News, Outcome};
use crate::limits;

/// News that have not been taken yet, and what they have led the owner to believe.
#[derive(Debug)]
pub(super) struct Told<T> {
    /// As much as comes from what the shell hands over at a time; the owner takes it before the next.
    pub(super) news: VecDeque<News<T>>,
    is_ready: bool,
    /// Why nothing works, as it was told last, and when (`mono_ms`).
    trouble: Option<(Box<str>, u64)>,
}

impl<T> Told<T> {
    pub(super) fn new() -> Told<T> {
        Told { news: VecDeque::new(), is_ready: false, trouble: None }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn outcome(&mut self, token: T, outcome: Outcome) {
        self.news.push_back(News::Outcome { token, outcome });
    }

    pub(super) fn ready(&mut self) {
        self.is_ready = true;
        self.trouble = None;
        self.news.push_back(News::Ready);
    }

    /// Nothing works. While that lasts another reason is told now and then.
    pub(super) fn lost(&mut self, why: &str, now_ms: u64) {
        let is_news = match &self.trouble {
            Some((told, at_ms)) => **told != *why && now_ms - at_ms >= limits::WARN_MS,
            None => true,
        };
        if self.is_ready || is_news {
            self.is_ready = false;
            self.trouble = Some((why.into(), now_ms));
            self.news.push_back(News::Lost { why: why.into() });
        }
    }

    /// The client was closed; its owner knows.
    pub(super) fn closed(&mut self) {
        self.is_ready = false;
    }
}

//! What files say of their images.

/// Keywords with texts, in order.
pub type Texts = [(String, String)];

/// Which image one is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    pub index: u64,
    /// Number and name of its class.
    pub class: Option<(usize, String)>,
    /// The how-manieth of its class it is among all images from index 0, from 1.
    pub nth: u64,
}

impl Item {
    /// What its file says of it.
    pub fn texts(&self) -> Vec<(String, String)> {
        let mut texts = vec![("index".to_owned(), self.index.to_string())];
        if let Some((index, name)) = &self.class {
            texts.push(("class".to_owned(), name.clone()));
            texts.push(("class_index".to_owned(), index.to_string()));
        }
        texts.push(("nth".to_owned(), self.nth.to_string()));
        texts
    }

    /// The image that a file says it holds.
    pub fn of(texts: &Texts) -> Option<Self> {
        let class = match (text(texts, "class"), text(texts, "class_index")) {
            (None, None) => None,
            (name, index) => Some((index?.parse().ok()?, name?.to_owned())),
        };
        Some(Self {
            index: text(texts, "index")?.parse().ok()?,
            class,
            nth: text(texts, "nth")?.parse().ok()?,
        })
    }
}

/// The text of a keyword.
pub fn text<'a>(texts: &'a Texts, keyword: &str) -> Option<&'a str> {
    texts.iter().find(|(key, _)| key == keyword).map(|(_, text)| text.as_str())
}

/// Keywords that say which images a file holds.
const WHICH: [&str; 9] =
    ["first_index", "count", "classes", "class_names", "channels", "index", "class", "class_index", "nth"];

/// What a file says of how its images were drawn.
pub fn own_texts(texts: &Texts) -> Vec<(String, String)> {
    texts.iter().filter(|(key, _)| !WHICH.contains(&key.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        let item = Item { index: 7, class: Some((2, "a, b".to_owned())), nth: 3 };
        assert_eq!(Item::of(&item.texts()), Some(item.clone()));
        let unclassed = Item { class: None, ..item };
        assert_eq!(Item::of(&unclassed.texts()), Some(unclassed));
        assert_eq!(Item::of(&[]), None);
    }
}

//! The texts in files about their images.

/// Keywords with texts, in order.
pub type Texts = [(String, String)];

/// The identity of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Item {
    pub index: u64,
    /// Number and name of its class.
    pub class: Option<(usize, String)>,
    /// Its number within its class, from 1: among all images from index 0, or among the completions of its image.
    pub nth: u64,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// The image that it completes, if any.
    pub completes: Option<Completes>,
}

/// The image that a completion is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Completes {
    /// Its number among all images, and that of the completion among those of the image, from 0.
    pub image: usize,
    pub completion: usize,
    /// Its file, and the SHA-256 of its pixels.
    pub name: String,
    pub sha256: String,
}

impl Item {
    /// The texts about it in its file.
    pub fn texts(&self) -> Vec<(String, String)> {
        let mut texts = vec![("index".to_owned(), self.index.to_string())];
        let mut add = |key: &str, text: String| texts.push((key.to_owned(), text));
        if let Some((index, name)) = &self.class {
            add("class", name.clone());
            add("class_index", index.to_string());
        }
        add("nth", self.nth.to_string());
        if let Some(Completes { image, completion, name, sha256 }) = &self.completes {
            add("image", name.clone());
            add("image_sha256", sha256.clone());
            add("image_index", image.to_string());
            add("completion", completion.to_string());
        }
        texts
    }

    /// The image that a file of this size says it holds.
    pub fn of(texts: &Texts, size: (usize, usize)) -> Option<Self> {
        let class = match (text(texts, "class"), text(texts, "class_index")) {
            (None, None) => None,
            (name, index) => Some((index?.parse().ok()?, name?.to_owned())),
        };
        let completes = match text(texts, "image") {
            None => None,
            Some(name) => Some(Completes {
                image: text(texts, "image_index")?.parse().ok()?,
                completion: text(texts, "completion")?.parse().ok()?,
                name: name.to_owned(),
                sha256: text(texts, "image_sha256")?.to_owned(),
            }),
        };
        Some(Self {
            index: text(texts, "index")?.parse().ok()?,
            class,
            nth: text(texts, "nth")?.parse().ok()?,
            size,
            completes,
        })
    }

    /// The difference to another, in words.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let class = |item: &Self| item.class.as_ref().map_or("none".to_owned(), |(_, name)| name.clone());
        let image = |item: &Self| {
            let of = |c: &Completes| format!("{} (SHA-256 {:.16})", c.name, c.sha256);
            item.completes.as_ref().map_or("none".to_owned(), of)
        };
        let size = |item: &Self| format!("{}x{}", item.size.0, item.size.1);
        let facts = [
            ("index", self.index.to_string(), found.index.to_string()),
            ("class", class(self), class(found)),
            ("image", image(self), image(found)),
            ("size", size(self), size(found)),
        ];
        let (what, expected, found) = facts.into_iter().find(|(_, expected, found)| expected != found)?;
        Some(format!("its {what} is {found}, expected {expected}"))
    }
}

/// The text of a keyword.
pub fn text<'a>(texts: &'a Texts, keyword: &str) -> Option<&'a str> {
    texts.iter().find(|(key, _)| key == keyword).map(|(_, text)| text.as_str())
}

/// Keywords that say which images a file holds.
const WHICH: [&str; 13] = [
    "first_index",
    "count",
    "classes",
    "class_names",
    "channels",
    "index",
    "class",
    "class_index",
    "nth",
    "image",
    "image_sha256",
    "image_index",
    "completion",
];

/// The texts in a file that tell how its images were drawn.
pub fn own_texts(texts: &Texts) -> Vec<(String, String)> {
    texts.iter().filter(|(key, _)| !WHICH.contains(&key.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        let class = Some((2, "a, b".to_owned()));
        let item = Item { index: 7, class, nth: 3, size: (4, 5), completes: None };
        let of = |item: &Item| Item::of(&item.texts(), (4, 5));
        assert_eq!(of(&item), Some(item.clone()));
        let unclassed = Item { class: None, ..item.clone() };
        assert_eq!(of(&unclassed), Some(unclassed));
        let completes =
            Completes { image: 1, completion: 3, name: "a.png".to_owned(), sha256: "ab".to_owned() };
        let completion = Item { completes: Some(completes), ..item.clone() };
        assert_eq!(of(&completion), Some(completion.clone()));
        assert_eq!(Item::of(&[], (4, 5)), None);
        let other = completion.difference(&item).unwrap();
        assert_eq!(other, "its image is none, expected a.png (SHA-256 ab)");
    }
}

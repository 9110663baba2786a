"""A person who asks to be forgotten: what is theirs goes, and every model that learned from them is named."""

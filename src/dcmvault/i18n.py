"""Words for people: gettext catalogues in English and Brazilian Portuguese."""

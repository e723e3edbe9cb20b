# ruff: noqa: E501
"""References of the methods paragraphs, by the way they are cited there."""

REFERENCES = {
    "Phang et al. 2020": "Phang, J., Calixto, I., Htut, P. M., Pruksachatkun, Y., Liu, H., Vania, C., Kann, K., Bowman, S. R. "
    "(2020). English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too. AACL. arXiv 2005.13013.",
    "Conneau et al. 2020": "Conneau, A., et al. (2020). Unsupervised Cross-lingual Representation Learning at Scale. ACL. "
    "arXiv 1911.02116.",
    "Hu et al. 2020": "Hu, J., Ruder, S., Siddhant, A., Neubig, G., Firat, O., Johnson, M. (2020). XTREME: A Massively "
    "Multilingual Multi-task Benchmark for Evaluating Cross-lingual Generalization. ICML. arXiv 2003.11080.",
    "Littell et al. 2017": "Littell, P., Mortensen, D. R., Lin, K., Kairis, K., Turner, C., Levin, L. (2017). URIEL and "
    "lang2vec: Representing languages as typological, geographical, and phylogenetic vectors. EACL.",
    "Khan et al. 2025": "Khan, A., et al. (2025). URIEL+: Enhancing Linguistic Inclusion and Usability in a Typological and "
    "Multilingual Knowledge Base. COLING. arXiv 2409.18472.",
    "Holm 1979": "Holm, S. (1979). A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of "
    "Statistics 6.",
    "MacKinnon & White 1985": "MacKinnon, J. G., White, H. (1985). Some Heteroskedasticity-Consistent Covariance Matrix "
    "Estimators with Improved Finite Sample Properties. Journal of Econometrics 29.",
    "Gretton et al. 2012": "Gretton, A., Borgwardt, K. M., Rasch, M. J., Schölkopf, B., Smola, A. (2012). A Kernel Two-Sample "
    "Test. JMLR 13.",
    "Covington & McFall 2010": "Covington, M. A., McFall, J. D. (2010). Cutting the Gordian Knot: The Moving-Average "
    "Type-Token Ratio (MATTR). Journal of Quantitative Linguistics 17.",
    "Artetxe et al. 2020": "Artetxe, M., Ruder, S., Yogatama, D. (2020). On the Cross-lingual Transferability of Monolingual "
    "Representations. ACL. arXiv 1910.11856.",
    "Roy et al. 2020": "Roy, U., Constant, N., Al-Rfou, R., Barua, A., Phillips, A., Yang, Y. (2020). LAReQA: "
    "Language-Agnostic Answer Retrieval from a Multilingual Pool. EMNLP. arXiv 2004.05484.",
}


def cited(text: str) -> list[str]:
    """The full references of what a text cites, in alphabetical order."""
    plain = " ".join(text.split())
    return sorted(full for short, full in REFERENCES.items() if short in plain)

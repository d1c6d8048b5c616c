"""Real and simulated sky to candidates, two-band cutouts and people's votes; predictions back to the catalogue."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_annotate": ("annotate",),
        "_background": ("estimate_background",),
        "_catalogue": ("read_catalogue",),
        "_classes": ("CUTS", "Calibration", "Cuts", "calibrate_cuts", "classify_extent", "select"),
        "_compare_people": ("compare_labels", "judge_roc", "who_was_right"),
        "_consensus": ("soft_labels", "volunteer_consensus", "volunteer_skill"),
        "_cutouts": ("extract_cutouts",),
        "_detect": ("detect",),
        "_detection": ("filter_image", "find_sources"),
        "_experts": ("expert_decisions",),
        "_extent": ("fit_extent", "model_image"),
        "_field": ("Field", "combine_fields", "read_field"),
        "_inject": ("inject_sources",),
        "_kosiba2020": ("read_kosiba2020",),
        "_match": ("cross_match",),
        "_merge": ("merge_bands", "write_png"),
        "_optical": ("LocalOptical", "NoImageError"),
        "_optical_services": ("HipsOptical", "SkyViewOptical"),
        "_psf": ("GaussianPsf", "ImagePsf", "KingPsf", "MixedPsf", "default_psf"),
        "_regions": ("to_regions", "write_regions"),
        "_samp": ("send_samp",),
        "_selection": ("selection_function",),
        "_simulate": ("simulate_candidates", "to_binary"),
        "_simulate_field": ("SimulatedField", "simulate_field"),
        "_simulate_survey": ("label_candidates", "simulate_survey"),
        "_votes": ("check_votes", "read_votes"),
        "_votes_agreement": ("cohen_kappa", "expert_agreement", "fleiss_kappa"),
        "_votes_simulate": ("simulate_votes",),
        "_workflow": ("Workflow", "load_workflow"),
        "_zooniverse": ("export_subjects",),
    },
)

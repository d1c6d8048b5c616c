"""Labels from people: workflows, votes of volunteers, experts, agreement, and the page to look at candidates."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_agreement": ("cohen_kappa", "expert_agreement", "fleiss_kappa"),
        "_comparison": ("compare_labels", "judge_roc", "who_was_right"),
        "_consensus": ("soft_labels", "volunteer_consensus", "volunteer_skill"),
        "_experts": ("expert_decisions", "known_labels"),
        "_from_export": ("list_workflows", "workflow_from_export"),
        "_queue": ("next_subject", "voting_queue"),
        "_simulate": ("simulate_votes",),
        "_votes": ("check_votes", "read_votes"),
        "_workflow": ("Workflow", "load_workflow"),
        "_zooniverse": ("export_subjects",),
        "page.report": ("write_report",),
        "page._server": ("open_server", "stored_votes"),
    },
)

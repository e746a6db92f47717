"""What a stage tells MLflow."""

from flows import tracking


def test_figures_that_a_replaced_worker_tells_again_are_kept_once(tiny_workspace):
    """It goes on from a checkpoint, and tells the steps since then anew."""
    mlflow = tracking.client(tiny_workspace)
    run_id, last = tracking.open_stage_run(tiny_workspace, mlflow, "base@a", "a", "identity")
    tracker = tracking.Tracker(mlflow, run_id, print, last)
    for step in (1, 2, 3, 2, 3, 4):
        tracker.metrics({"loss": float(step)}, step)
    tracker.metrics({"cost": 1.0}, 4)
    tracker.close()
    steps = [metric.step for metric in mlflow.get_metric_history(run_id, "loss")]
    assert steps == [1, 2, 3, 4]
    assert [metric.value for metric in mlflow.get_metric_history(run_id, "cost")] == [1.0]

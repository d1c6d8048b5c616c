"""Classifier and regressor as scikit-learn estimators; the conventional measures."""

package check

// Workload has the facts of a workload.
type Workload struct{}

// Name returns the workload as in "shop/deployment/cart".
func (w *Workload) Name() string { return "" }

package harness

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names of the injector's MutatingWebhookConfiguration: Istio's own, which is called after the webhook's, and one that
// is called before it. The API server calls configurations in the order of their names.
const (
	InjectorAfterWebhook  = "istio-sidecar-injector"
	InjectorBeforeWebhook = "00-a-istio-sidecar-injector"
)

// InjectorOptions configure RunSidecarInjector.
type InjectorOptions struct {
	// Configuration is the name of its MutatingWebhookConfiguration. The default is InjectorAfterWebhook.
	Configuration string
	// Native makes istio-proxy an init container that is always restarted, Istio's default on
	// Kubernetes 1.33 and later; otherwise it is a container.
	Native bool
	// Reinvocation is the policy of its webhooks. The default is Never, as in Istio.
	Reinvocation registrationv1.ReinvocationPolicyType
}

// SidecarInjector replaces Istio's injector. There is no Istio behind it, and no container starts.
type SidecarInjector struct {
	plane   *ControlPlane
	options InjectorOptions
	server  *http.Server
	objects []client.Object // the webhook configuration last
	calls   atomic.Int64
}

const (
	istioNamespace  = "istio-system"
	injectorService = "istiod"
	injectorPort    = 15017
)

// RunSidecarInjector starts the stand-in and registers it as Istio's chart does. Only one can run at a time.
func (c *ControlPlane) RunSidecarInjector(ctx context.Context, o InjectorOptions) (*SidecarInjector, error) {
	o.Configuration = cmp.Or(o.Configuration, InjectorAfterWebhook)
	o.Reinvocation = cmp.Or(o.Reinvocation, registrationv1.NeverReinvocationPolicy)
	s := &SidecarInjector{plane: c, options: o}
	ca, err := s.serve()
	if err != nil {
		return nil, fmt.Errorf("serving the sidecar injector: %w", err)
	}
	c.onStop(func() error { return s.server.Close() })
	if err := s.register(ctx, ca); err != nil {
		return nil, fmt.Errorf("registering the sidecar injector: %w", err)
	}
	return s, Eventually(ctx, time.Minute, "the API server to call the sidecar injector", s.called)
}

// serve listens on its own address and returns the CA of its certificate.
func (s *SidecarInjector) serve() (ca []byte, err error) {
	address, err := s.plane.net.address()
	if err != nil {
		return nil, err
	}
	name := injectorService + "." + istioNamespace + ".svc"
	crt, key, err := cert.GenerateSelfSignedCertKey(name, nil, nil)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(address.String(), fmt.Sprint(injectorPort)))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /inject", s.handle)
	s.server = &http.Server{
		Handler:           mux,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}},
		ReadHeaderTimeout: 5 * time.Second,
	}
	go func() { _ = s.server.ServeTLS(listener, "", "") }() // ends with Close
	s.objects = append(
		s.objects,
		endpointSlice(
			istioNamespace, injectorService, injectorService, address, map[string]int32{"https-webhook": injectorPort},
		),
	)
	return crt, nil
}

// register creates the Service, its EndpointSlice and the webhook configuration.
func (s *SidecarInjector) register(ctx context.Context, ca []byte) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: istioNamespace}}
	if err := s.plane.Client.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	s.objects = append(s.objects,
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: injectorService},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https-webhook", Port: 443}}},
		},
		s.configuration(ca),
	)
	for _, o := range s.objects {
		if err := s.plane.Client.Create(ctx, o); err != nil {
			return err
		}
	}
	return s.plane.writeEndpoints(ctx, istioNamespace, injectorService)
}

// configuration has the selectors of Istio's chart for the default revision
// (istio-discovery/templates/mutatingwebhook.yaml).
func (s *SidecarInjector) configuration(ca []byte) *registrationv1.MutatingWebhookConfiguration {
	in := func(key, value string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{value}}
	}
	not := func(key, value string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpNotIn, Values: []string{value}}
	}
	absent := func(key string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpDoesNotExist}
	}
	type requirements = []metav1.LabelSelectorRequirement
	return &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: s.options.Configuration, Labels: map[string]string{"app": "sidecar-injector"}},
		Webhooks: []registrationv1.MutatingWebhook{
			s.entry(
				"namespace.sidecar-injector.istio.io",
				ca,
				requirements{in("istio-injection", "enabled")},
				requirements{not(injectKey, "false")},
			),
			s.entry("object.sidecar-injector.istio.io", ca, requirements{absent("istio-injection"), absent(revisionAnnotation)},
				requirements{in(injectKey, "true"), absent(revisionAnnotation)}),
		},
	}
}

func (s *SidecarInjector) entry(
	name string, ca []byte, namespaces, pods []metav1.LabelSelectorRequirement,
) registrationv1.MutatingWebhook {
	path, port := "/inject", int32(443)
	fail, none := registrationv1.Fail, registrationv1.SideEffectClassNone
	return registrationv1.MutatingWebhook{
		Name: name,
		ClientConfig: registrationv1.WebhookClientConfig{
			Service: &registrationv1.ServiceReference{
				Namespace: istioNamespace,
				Name:      injectorService,
				Path:      &path,
				Port:      &port,
			},
			CABundle: ca,
		},
		Rules: []registrationv1.RuleWithOperations{{
			Operations: []registrationv1.OperationType{registrationv1.Create},
			Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
		}},
		NamespaceSelector:       &metav1.LabelSelector{MatchExpressions: namespaces},
		ObjectSelector:          &metav1.LabelSelector{MatchExpressions: pods},
		FailurePolicy:           &fail,
		SideEffects:             &none,
		ReinvocationPolicy:      &s.options.Reinvocation,
		AdmissionReviewVersions: []string{"v1"},
	}
}

// called creates a pod that only the injector changes, as a dry run.
func (s *SidecarInjector) called(ctx context.Context) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:    "default",
			GenerateName: "probe-",
			Labels:       map[string]string{injectKey: "true"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if err := s.plane.Client.Create(ctx, pod, client.DryRunAll); err != nil {
		return err
	}
	if pod.Annotations[statusAnnotation] == "" {
		return errNoSidecar
	}
	return nil
}

var errNoSidecar = errors.New("a pod that requests a sidecar was created without one")

// Calls returns the number of calls.
func (s *SidecarInjector) Calls() int { return int(s.calls.Load()) }

// Stop deletes the registration, waits until the API server no longer calls it, and ends the server.
func (s *SidecarInjector) Stop(ctx context.Context) error {
	configuration := len(s.objects) - 1
	if err := s.plane.Client.Delete(ctx, s.objects[configuration]); err != nil {
		return err
	}
	err := Eventually(ctx, time.Minute, "the API server to stop calling the sidecar injector",
		func(ctx context.Context) error {
			if err := s.called(ctx); !errors.Is(err, errNoSidecar) {
				return fmt.Errorf("it still does (%v)", err)
			}
			return nil
		})
	for _, o := range s.objects[:configuration] {
		err = errors.Join(err, s.plane.Client.Delete(ctx, o))
	}
	err = errors.Join(err, s.plane.writeEndpoints(ctx, istioNamespace, injectorService))
	return errors.Join(err, s.server.Close())
}

func (s *SidecarInjector) handle(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil || review.Request == nil {
		http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
		return
	}
	review.Response = s.answer(review.Request)
	review.Response.UID, review.Request = review.Request.UID, nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

// answer marshals the injected pod and compares, as Istio does.
func (s *SidecarInjector) answer(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	refuse := func(err error) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(request.Object.Raw, pod); err != nil {
		return refuse(err)
	}
	if err := injectSidecar(pod, s.options.Native); err != nil {
		return refuse(err)
	}
	changed, err := json.Marshal(pod)
	if err != nil {
		return refuse(err)
	}
	operations, err := jsonpatch.CreatePatch(request.Object.Raw, changed)
	if err != nil {
		return refuse(err)
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return refuse(err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: patch, PatchType: &kind}
}

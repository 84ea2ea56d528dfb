package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/webhook"
)

// TestMain keeps controller-runtime's warning about a missing logger out of the output.
func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// review is an AdmissionReview as the API server sends it for a pod that a ReplicaSet creates.
func review(tb testing.TB, pod *corev1.Pod) []byte {
	tb.Helper()
	dryRun := false
	return mustMarshal(tb, admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:             "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
			Kind:            metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:        metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			RequestKind:     &metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			RequestResource: &metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace:       namespace,
			Operation:       admissionv1.Create,
			DryRun:          &dryRun,
			Object:          apiruntime.RawExtension{Raw: mustMarshal(tb, pod)},
			Options:         apiruntime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
			UserInfo: authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:replicaset-controller",
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}},
		},
	})
}

// noop is controller-runtime's handler without a decision: it decodes the review and answers.
func noop(testing.TB, *corev1.Pod) http.Handler {
	return &admission.Webhook{Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response {
		return admission.Allowed("")
	})}
}

// redisTLS is the webhook's handler.
func redisTLS(tb testing.TB, pod *corev1.Pod) http.Handler {
	h, err := webhook.NewHandler(newInjector(tb, pod), prometheus.NewRegistry(), logr.Discard())
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// idiomatic makes the same decision and answers the usual way: decode the pod, change it, marshal it, and let the
// library find the difference.
func idiomatic(tb testing.TB, pod *corev1.Pod) http.Handler {
	injector, decoder := newInjector(tb, pod), admission.NewDecoder(clientgoscheme.Scheme)
	return &admission.Webhook{Handler: admission.HandlerFunc(func(
		_ context.Context, req admission.Request,
	) admission.Response {
		var pod corev1.Pod
		if err := decoder.Decode(req, &pod); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		change(&pod, injector.Inject(req.Namespace, &pod))
		changed, err := json.Marshal(&pod)
		if err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		return admission.PatchResponseFromRaw(req.Object.Raw, changed)
	})}
}

// change changes the pod as the patch of its originations would, with about the same cost.
func change(pod *corev1.Pod, d inject.Decision) {
	metav1.SetMetaDataLabel(&pod.ObjectMeta, origination.LabelInjected, "true")
	for _, o := range d.Originations {
		metav1.SetMetaDataLabel(&pod.ObjectMeta, o.Label(), "true")
		for _, vip := range o.VIPs {
			pod.Spec.HostAliases = append(pod.Spec.HostAliases, corev1.HostAlias{IP: vip.String(), Hostnames: []string{o.Host}})
		}
	}
	for _, op := range d.Operations {
		switch value, _ := op.Value.(string); op.Path {
		case "/metadata/annotations/redis-tls~1status":
			pod.Annotations[origination.AnnotationStatus] = value
		case "/metadata/annotations/redis-tls~1vips":
			pod.Annotations[origination.AnnotationVIPs] = value
		case "/metadata/annotations/sidecar.istio.io~1userVolume":
			pod.Annotations["sidecar.istio.io/userVolume"] = value
		case "/metadata/annotations/sidecar.istio.io~1userVolumeMount":
			pod.Annotations["sidecar.istio.io/userVolumeMount"] = value
		}
	}
}

func BenchmarkAdmission(b *testing.B) {
	for _, pod := range []struct {
		name string
		*corev1.Pod
	}{{"pod=small", smallPod()}, {"pod=2000env", podWithEnv(2000)}} {
		for _, bc := range []struct {
			name    string
			handler func(testing.TB, *corev1.Pod) http.Handler
		}{{"handler=noop", noop}, {"handler=idiomatic", idiomatic}, {"handler=redis-tls", redisTLS}} {
			b.Run(pod.name+"/"+bc.name, func(b *testing.B) {
				overTLS(b, bc.handler(b, pod.Pod), review(b, pod.Pod), bc.name != "handler=noop")
			})
		}
	}
}

// connections is the number of connections for each processor.
const connections = 8

// overTLS sends the review over kept connections, with HTTP/1.1 as the API server uses for a Service.
func overTLS(b *testing.B, handler http.Handler, body []byte, patched bool) {
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	server.StartTLS()
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = connections * runtime.GOMAXPROCS(0)

	var answer bytes.Buffer
	send(b, client, server.URL, body, &answer)
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(answer.Bytes(), &review); err != nil {
		b.Fatal(err)
	}
	if r := review.Response; r == nil || !r.Allowed || (len(r.Patch) > 0) != patched {
		b.Fatalf("unexpected answer: %s", answer.Bytes())
	}
	b.SetBytes(int64(len(body)))
	b.ResetTimer()
	b.SetParallelism(connections) // enough to keep the processors busy
	before := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			send(b, client, server.URL, body, io.Discard)
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reviews/s")
	// The processor time of client and server together. On a shared machine it is more exact than the clock.
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime returns the processor time of this process so far.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func send(b *testing.B, client *http.Client, url string, body []byte, answer io.Writer) {
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	defer response.Body.Close()
	if _, err := io.Copy(answer, response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Errorf("status %d: %v", response.StatusCode, err)
	}
}

package check

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// The channels of pods/exec (k8s.io/apimachinery, pkg/util/remotecommand).
const (
	channelOut   = 1
	channelError = 3
)

// execServer answers as an API server with a kubelet does: it runs pilot-agent in the sidecar of pod cart, whose output
// is the request. The user may do that in namespace shop only.
func execServer(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		func(w http.ResponseWriter, r *http.Request) {
			var review authorizationv1.SelfSubjectAccessReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			asked := review.Spec.ResourceAttributes
			review.Status.Allowed = asked.Namespace == "shop" && asked.Resource == "pods" && asked.Subresource == "exec" &&
				asked.Verb == "create"
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(review)
		})
	mux.HandleFunc("GET /api/v1/namespaces/shop/pods/cart/exec", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		connection := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{"v5.channel.k8s.io": {
			Binary: true,
			Channels: []wsstream.ChannelType{
				wsstream.IgnoreChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.IgnoreChannel,
			},
		}})
		_, streams, err := connection.Open(w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer connection.Close()
		fmt.Fprintf(streams[channelOut], "%s in %s", strings.Join(query["command"], " "), query.Get("container"))
		_ = json.NewEncoder(streams[channelError]).Encode(metav1.Status{Status: metav1.StatusSuccess})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestExecRunsPilotAgentInTheSidecar proves the requests of pods/exec, and that a refusal is a Forbidden error.
func TestExecRunsPilotAgentInTheSidecar(t *testing.T) {
	config := &rest.Config{Host: execServer(t).URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	reader := &Exec{Config: config, Client: client}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}}
	answers, err := reader.Read(t.Context(), pod)
	must(t, err)
	for _, d := range dumps {
		want := "pilot-agent request GET " + d.path + " in istio-proxy"
		if got := string(answers[d.file]); got != want {
			t.Errorf("%s: %q, want %q", d.file, got, want)
		}
	}
	pod.Namespace = "billing"
	if _, err := reader.Read(t.Context(), pod); !apierrors.IsForbidden(err) {
		t.Errorf("another namespace: %v, want a refusal", err)
	}
	pod.Namespace, pod.Name = "shop", "gone"
	if _, err := reader.Read(t.Context(), pod); err == nil {
		t.Error("a pod that does not exist has answers")
	}
}

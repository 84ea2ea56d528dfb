package harness

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Scheme returns the types that Client knows.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(apiextensionsv1.AddToScheme(s))
	utilruntime.Must(networkingv1.AddToScheme(s))
	utilruntime.Must(securityv1.AddToScheme(s))
	utilruntime.Must(certmanagerv1.AddToScheme(s))
	return s
}

// makeCredentials writes the certificate of the API server, the signing key of service accounts and
// the administrator's token, and makes the administrator's clients.
func (c *ControlPlane) makeCredentials() error {
	crt, key, err := cert.GenerateSelfSignedCertKey("kube-apiserver", []net.IP{c.loopback.AsSlice()}, nil)
	if err != nil {
		return fmt.Errorf("making the API server's certificate: %w", err)
	}
	c.ca = crt
	private, public, err := signingKey()
	if err != nil {
		return fmt.Errorf("making the key of service accounts: %w", err)
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	c.adminToken = hex.EncodeToString(random)
	for name, content := range map[string][]byte{
		"apiserver.crt":        crt,
		"apiserver.key":        key,
		"service-accounts.key": private,
		"service-accounts.pub": public,
		"tokens.csv":           []byte(c.adminToken + `,admin,admin,"system:masters"` + "\n"),
	} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return err
		}
	}
	return c.makeClients()
}

func (c *ControlPlane) makeClients() (err error) {
	c.admin = c.config(c.adminToken)
	if c.Clientset, err = kubernetes.NewForConfig(c.admin); err != nil {
		return err
	}
	// The client makes no request before its first use.
	if c.Client, err = client.New(c.admin, client.Options{Scheme: Scheme()}); err != nil {
		return err
	}
	c.Kubeconfig, err = c.WriteKubeconfig("admin", c.admin)
	return err
}

// signingKey returns an ECDSA key as PEM, private and public.
func signingKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	privateDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: privateDER})
	public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	return private, public, nil
}

// file returns a path in the temporary directory.
func (c *ControlPlane) file(name string) string { return filepath.Join(c.dir, name) }

func (c *ControlPlane) config(token string) *rest.Config {
	return &rest.Config{
		Host:            "https://" + netip.AddrPortFrom(c.loopback, apiServerPort).String(),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca},
		QPS:             -1, // no client-side limit
		WarningHandler:  rest.NoWarnings{},
	}
}

// Config returns the administrator's client configuration, which the caller may change.
func (c *ControlPlane) Config() *rest.Config { return rest.CopyConfig(c.admin) }

// As returns a client configuration that impersonates the user, a member of the groups. RBAC decides what it may do,
// which is nothing at first.
func (c *ControlPlane) As(user string, groups ...string) *rest.Config {
	config := c.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	return config
}

// ServiceAccountToken requests a token of the service account, for the API server's own audience unless others are
// given.
func (c *ControlPlane) ServiceAccountToken(
	ctx context.Context, namespace, name string, audiences ...string,
) (string, error) {
	day := int64((24 * time.Hour).Seconds())
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         audiences,
		ExpirationSeconds: &day,
	}}
	answer, err := c.Clientset.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of service account %s/%s: %w", namespace, name, err)
	}
	return answer.Status.Token, nil
}

// ServiceAccountConfig returns a client configuration that authenticates as the service account with its own token, as
// a pod would.
func (c *ControlPlane) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	token, err := c.ServiceAccountToken(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return c.config(token), nil
}

// WriteKubeconfig writes the client configuration as a file of that name and returns its path.
func (c *ControlPlane) WriteKubeconfig(name string, config *rest.Config) (string, error) {
	k := clientcmdapi.NewConfig()
	k.CurrentContext = "redis-tls"
	k.Contexts["redis-tls"] = &clientcmdapi.Context{Cluster: "redis-tls", AuthInfo: name}
	k.Clusters["redis-tls"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	k.AuthInfos[name] = &clientcmdapi.AuthInfo{
		Token:             config.BearerToken,
		Impersonate:       config.Impersonate.UserName,
		ImpersonateGroups: config.Impersonate.Groups,
	}
	path := c.file(name + ".kubeconfig")
	return path, clientcmd.WriteToFile(*k, path)
}

// Kubectl runs kubectl as the administrator. A --kubeconfig or --as in the arguments overrides that. The error has the
// exit only. The output is in stdout and stderr.
func (c *ControlPlane) Kubectl(
	ctx context.Context, stdin io.Reader, args ...string,
) (stdout, stderr string, err error) {
	args = append([]string{"--kubeconfig=" + c.Kubeconfig, "--cache-dir=" + c.file("kubectl-cache")}, args...)
	cmd := exec.CommandContext(ctx, c.binaries[kubectlName], args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	cmd.Env = []string{"HOME=" + c.dir, "PATH=/usr/bin:/bin"}
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// KubectlPath returns the path of the kubectl that Kubectl runs.
func (c *ControlPlane) KubectlPath() string { return c.binaries[kubectlName] }

// Namespace creates a namespace and waits until pods can be created in it.
func (c *ControlPlane) Namespace(ctx context.Context, name string, labels, annotations map[string]string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: annotations}}
	if err := c.Client.Create(ctx, ns); err != nil {
		return fmt.Errorf("creating namespace %s: %w", name, err)
	}
	return c.WaitForNamespace(ctx, name)
}

// WaitForNamespace waits until pods can be created in a new namespace, which is when it has its service account.
func (c *ControlPlane) WaitForNamespace(ctx context.Context, name string) error {
	return Eventually(ctx, startTimeout, "the service account of namespace "+name, func(ctx context.Context) error {
		return c.Client.Get(ctx, client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
	})
}

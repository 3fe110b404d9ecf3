// Package kubernetes builds the manifests as `kubectl apply -k` does, and checks them against Kubernetes' types and against
// the application. It is a module of its own, so that the application needs none of Kubernetes' modules.
package kubernetes

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// manifests is what one folder builds.
type manifests struct {
	deployment apps.Deployment
	config     core.ConfigMap
	service    core.Service
	ingress    networking.Ingress
	network    networking.NetworkPolicy
	scaler     autoscaling.HorizontalPodAutoscaler
	budget     policy.PodDisruptionBudget
}

// build fails at a field that Kubernetes does not know, as it would be ignored there.
func build(t *testing.T, folder string) manifests {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	groups := runtime.NewSchemeBuilder(apps.AddToScheme, autoscaling.AddToScheme, core.AddToScheme, networking.AddToScheme, policy.AddToScheme)
	if err := groups.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var m manifests
	for _, resource := range built.Resources() {
		object, _, err := decoder.Decode([]byte(resource.MustYaml()), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", resource.CurId(), err)
		}
		switch object := object.(type) {
		case *apps.Deployment:
			m.deployment = *object
		case *core.ConfigMap:
			m.config = *object
		case *core.Service:
			m.service = *object
		case *networking.Ingress:
			m.ingress = *object
		case *networking.NetworkPolicy:
			m.network = *object
		case *autoscaling.HorizontalPodAutoscaler:
			m.scaler = *object
		case *policy.PodDisruptionBudget:
			m.budget = *object
		default:
			t.Fatalf("%s: no test looks at it", resource.CurId())
		}
	}
	if n := len(m.deployment.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%d containers", n)
	}
	return m
}

func (m manifests) pod() core.PodSpec         { return m.deployment.Spec.Template.Spec }
func (m manifests) container() core.Container { return m.pod().Containers[0] }

func TestManifests(t *testing.T) {
	folders, err := filepath.Glob("overlays/*")
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	for _, folder := range append(folders, "base") {
		m := build(t, folder)
		for name, check := range map[string]func(*testing.T){
			"confined": m.confined, "image": m.image, "selectors": m.selectors, "ports": m.ports, "probes": m.probes,
			"end": m.end, "settings": m.settings, "network": m.reaches, "scaling": m.scaling,
		} {
			t.Run(folder+"/"+name, check)
		}
	}
}

func (m manifests) confined(t *testing.T) {
	pod, container := m.pod().SecurityContext, m.container().SecurityContext
	if pod == nil || container == nil || container.Capabilities == nil || pod.SeccompProfile == nil {
		t.Fatal("no security context")
	}
	for what, ok := range map[string]bool{
		"runAsNonRoot":                    isTrue(pod.RunAsNonRoot) && container.RunAsNonRoot == nil,
		"runAsUser 65532, as the image":   pod.RunAsUser != nil && *pod.RunAsUser == 65532 && container.RunAsUser == nil,
		"seccompProfile RuntimeDefault":   pod.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault && container.SeccompProfile == nil,
		"readOnlyRootFilesystem":          isTrue(container.ReadOnlyRootFilesystem),
		"no allowPrivilegeEscalation":     isFalse(container.AllowPrivilegeEscalation),
		"no capability":                   slices.Equal(container.Capabilities.Drop, []core.Capability{"ALL"}) && len(container.Capabilities.Add) == 0,
		"no token of the service account": isFalse(m.pod().AutomountServiceAccountToken),
		"nothing of the host":             !m.pod().HostNetwork && !m.pod().HostPID && !m.pod().HostIPC,
	} {
		if !ok {
			t.Error("not so:", what)
		}
	}
	if !strings.Contains(read(t, "../../Dockerfile"), "--chown=65532:65532") {
		t.Error("the image has another user")
	}
}

// image wants a version: `latest`, which is also what no tag means, may be another one on each node.
func (m manifests) image(t *testing.T) {
	_, tag, tagged := strings.Cut(path.Base(m.container().Image), ":")
	if !tagged || tag == "latest" {
		t.Errorf("%s names no version", m.container().Image)
	}
}

func (m manifests) selectors(t *testing.T) {
	pod := labels.Set(m.deployment.Spec.Template.Labels)
	selectors := map[string]*meta.LabelSelector{
		"Deployment":          m.deployment.Spec.Selector,
		"Service":             {MatchLabels: m.service.Spec.Selector},
		"NetworkPolicy":       &m.network.Spec.PodSelector,
		"PodDisruptionBudget": m.budget.Spec.Selector,
	}
	for _, spread := range m.pod().TopologySpreadConstraints {
		selectors[spread.TopologyKey] = spread.LabelSelector
	}
	for what, labelSelector := range selectors {
		selector, err := meta.LabelSelectorAsSelector(labelSelector)
		if err != nil || selector.Empty() || !selector.Matches(pod) {
			t.Errorf("%s selects %v, %v; the pods are %v", what, selector, err, pod)
		}
	}
	if len(selectors) != 6 {
		t.Errorf("no spread over zones and nodes: %v", selectors)
	}
}

// ports follows a request from the Ingress to where the application listens.
func (m manifests) ports(t *testing.T) {
	listens := match(t, "../../config.yaml", `listen_addr: +":(\d+)"`)
	ports := m.container().Ports
	if len(ports) != 1 || strconv.Itoa(int(ports[0].ContainerPort)) != listens {
		t.Fatalf("the container's ports are %v, the application listens on %s", ports, listens)
	}
	http := intstr.FromString(ports[0].Name)
	if len(m.service.Spec.Ports) != 1 || m.service.Spec.Ports[0].TargetPort != http {
		t.Fatalf("the Service leads to %v, want %v", m.service.Spec.Ports, http)
	}
	for _, rule := range m.ingress.Spec.Rules {
		for _, at := range rule.HTTP.Paths {
			if to := at.Backend.Service; to.Name != m.service.Name || to.Port.Name != m.service.Spec.Ports[0].Name {
				t.Errorf("the Ingress leads to %v", to)
			}
		}
		if base := m.config.Data["BASE_URL"]; base != "" && base != "https://"+rule.Host {
			t.Errorf("the Ingress is for %s, BASE_URL is %s", rule.Host, base)
		}
		if !slices.ContainsFunc(m.ingress.Spec.TLS, func(tls networking.IngressTLS) bool { return slices.Contains(tls.Hosts, rule.Host) }) {
			t.Errorf("no TLS for %s", rule.Host)
		}
	}
	if in := m.network.Spec.Ingress; len(in) != 1 || len(in[0].From) != 1 || len(in[0].Ports) != 1 || *in[0].Ports[0].Port != http {
		t.Errorf("the NetworkPolicy lets in %+v", in)
	}
}

func (m manifests) probes(t *testing.T) {
	waits := seconds(t, "../../routes/health.go", `readyTimeout += (\d+) \* time\.Second`)
	for name, probe := range m.allProbes() {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != m.container().Ports[0].Name {
			t.Fatalf("no %s probe of the application's port: %v", name, probe)
		}
	}
	if timeout := m.container().ReadinessProbe.TimeoutSeconds; time.Duration(timeout)*time.Second <= waits {
		t.Errorf("the readiness probe waits for %d s, /readyz for %v", timeout, waits)
	}
	if m.container().LivenessProbe.HTTPGet.Path == "/readyz" {
		t.Error("an outage of Redis restarts every instance")
	}
}

func (m manifests) allProbes() map[string]*core.Probe {
	c := m.container()
	return map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe}
}

// end wants every request answered that was taken before an instance is killed.
func (m manifests) end(t *testing.T) {
	delay, err := time.ParseDuration(m.environment()["SHUTDOWN_DELAY"])
	if err != nil || delay == 0 {
		t.Fatalf("SHUTDOWN_DELAY is %v, %v", delay, err)
	}
	longest := max(
		seconds(t, "../../internal/server/server.go", `DefaultGrace = (\d+) \* time\.Second`),
		seconds(t, "../../internal/server/server.go", `WriteTimeout: +(\d+) \* time\.Second`),
	)
	grace := m.pod().TerminationGracePeriodSeconds
	if grace == nil {
		t.Fatal("killed after Kubernetes' default of 30 s")
	}
	if time.Duration(*grace)*time.Second <= delay+longest {
		t.Errorf("killed after %d s, SHUTDOWN_DELAY is %v and a request may take %v", *grace, delay, longest)
	}
}

// environment is what the application gets.
func (m manifests) environment() map[string]string {
	env := map[string]string{}
	for _, from := range m.container().EnvFrom {
		if from.ConfigMapRef != nil && from.ConfigMapRef.Name == m.config.Name {
			for name, value := range m.config.Data {
				env[name] = value
			}
		}
	}
	for _, variable := range m.container().Env {
		env[variable.Name] = variable.Value
	}
	return env
}

var secretSettings = []string{"LOGTO_APP_SECRET", "LOGTO_WEBHOOK_KEY", "SESSION_KEY", "REDIS_URL"}

// settings wants variables that the application knows, and its secrets from the Secret's files.
func (m manifests) settings(t *testing.T) {
	known, env := read(t, "../../config.yaml"), m.environment()
	for name := range env {
		setting := strings.TrimSuffix(name, "_FILE")
		if !regexp.MustCompile(`(?m)# ` + setting + `: `).MatchString(known) {
			t.Errorf("%s is no setting", name)
		}
		if setting == name && slices.Contains(secretSettings, name) {
			t.Errorf("%s is for everybody to read who may see a pod", name)
		}
	}
	if _, ok := env["TRUSTED_PROXIES"]; !ok {
		t.Error("the ConfigMap is not used")
	}
	mounts, volumes := m.container().VolumeMounts, m.pod().Volumes
	if len(mounts) != 1 || len(volumes) != 1 || mounts[0].Name != volumes[0].Name || volumes[0].Secret == nil || mounts[0].SubPath != "" {
		t.Fatalf("not one Secret, as a folder: %v, %v", mounts, volumes)
	}
	for _, name := range secretSettings {
		if file := env[name+"_FILE"]; filepath.Dir(file) != mounts[0].MountPath {
			t.Errorf("%s_FILE is %q, the Secret is in %s", name, file, mounts[0].MountPath)
		} else if !strings.Contains(read(t, "README.md"), "--from-literal="+filepath.Base(file)+"=") {
			t.Errorf("README.md does not put %s into the Secret", filepath.Base(file))
		}
	}
}

// reaches wants a way to the names, to Redis and to Logto, and no other.
func (m manifests) reaches(t *testing.T) {
	if want := []networking.PolicyType{"Ingress", "Egress"}; !slices.Equal(m.network.Spec.PolicyTypes, want) {
		t.Errorf("in force for %v, want %v", m.network.Spec.PolicyTypes, want)
	}
	var got []string
	for _, rule := range m.network.Spec.Egress {
		for _, port := range rule.Ports {
			got = append(got, string(*port.Protocol)+" "+port.Port.String())
		}
		if len(rule.Ports) == 0 {
			t.Error("a rule for every port")
		}
	}
	redis := "TCP " + match(t, "../../config.yaml", `"redis://localhost:(\d+)`)
	if want := []string{"UDP 53", "TCP 53", redis, "TCP 443"}; !slices.Equal(got, want) {
		t.Errorf("reaches %v, want %v", got, want)
	}
}

func (m manifests) scaling(t *testing.T) {
	if m.deployment.Spec.Replicas != nil {
		t.Error("the Deployment's replicas undo the autoscaler's with every kubectl apply")
	}
	if to := m.scaler.Spec.ScaleTargetRef; to.Kind != "Deployment" || to.Name != m.deployment.Name {
		t.Errorf("scales %v", to)
	}
	resources := m.container().Resources
	if resources.Requests.Cpu().IsZero() || resources.Requests.Memory().IsZero() || resources.Limits.Memory().IsZero() {
		t.Errorf("resources: %v; the autoscaler needs a request, the node a limit of memory", resources)
	}
	if replicas, away := m.scaler.Spec.MinReplicas, m.budget.Spec.MaxUnavailable; replicas == nil || *replicas < 2 || away == nil || away.IntVal != 1 {
		t.Error("there may be a time without an instance")
	}
	if rolling := m.deployment.Spec.Strategy.RollingUpdate; rolling == nil || rolling.MaxUnavailable.IntVal != 0 {
		t.Error("a rollout takes instances away before the new ones are ready")
	}
}

// The application starts with what the overlay gives it, and has the paths that the probes ask for.
func TestStart(t *testing.T) {
	m := build(t, "overlays/production")
	app := filepath.Join(t.TempDir(), "app")
	build := exec.Command("go", "build", "-o", app, ".")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key, err := exec.Command(app, "-new-session-key").Output()
	if err != nil {
		t.Fatal(err)
	}
	secrets, mounted := t.TempDir(), m.container().VolumeMounts[0].MountPath
	for name, value := range map[string]string{"app_secret": "secret", "webhook_key": "key", "session_key": string(key), "redis_url": "redis://127.0.0.1:1"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, app)
	cmd.Dir = t.TempDir() // where there is no config.yaml
	cmd.Env = []string{"LISTEN_ADDR=" + address}
	for name, value := range m.environment() {
		cmd.Env = append(cmd.Env, name+"="+strings.Replace(value, mounted, secrets, 1))
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, or the log says why
		cancel()
		close(ended)
	}()
	defer func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	for name, probe := range m.allProbes() {
		want := http.StatusOK
		if name == "readiness" {
			want = http.StatusServiceUnavailable // there is no Redis
		}
		if got := status(ctx, "http://"+address+probe.HTTPGet.Path); got != want {
			t.Errorf("%s: GET %s = %d, want %d", name, probe.HTTPGet.Path, got, want)
		}
	}
}

// status waits for the application to listen.
func status(ctx context.Context, url string) int {
	for ctx.Err() == nil {
		if response, err := http.Get(url); err == nil {
			response.Body.Close()
			return response.StatusCode
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// match returns the first group of a pattern that a file must have once.
func match(t *testing.T, path, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, path), -1)
	if len(found) != 1 {
		t.Fatalf("%s has %s %d times", path, pattern, len(found))
	}
	return found[0][1]
}

func seconds(t *testing.T, path, pattern string) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(match(t, path, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Second
}

{{- define "weir.fullname" -}}
{{- default (ternary .Release.Name (printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride)) (contains (default .Chart.Name .Values.nameOverride) .Release.Name)) .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "weir.injector" -}}
{{ include "weir.fullname" . }}-injector
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: injector
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.labelsOf" (list . "injector") }}
{{- end -}}

{{/* Labels of an object of a component; only pods of the webhook may have "injector", by which its Service finds them. */}}
{{- define "weir.labelsOf" -}}
{{- $component := last . -}}
{{- with first . -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ $component }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "weir.image" -}}
{{- with .Values.image -}}
{{- $repository := ternary (printf "%s/%s" .registry .repository) .repository (ne .registry "") -}}
{{- if .digest -}}
{{ $repository }}@{{ .digest }}
{{- else -}}
{{ $repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "weir.certSecret" -}}
{{- if eq .Values.certs.mode "existing" -}}
{{ required "certs.existing.secretName is empty: which Secret has the webhook's certificate?" .Values.certs.existing.secretName }}
{{- else if eq .Values.certs.mode "self" -}}
{{- /* Not the name of the other modes: a Secret's type cannot be changed. */ -}}
{{ include "weir.injector" . }}-self-certs
{{- else -}}
{{ include "weir.injector" . }}-certs
{{- end -}}
{{- end -}}

{{/* The settings that the webhook reads; the names of the options are those of the annotations. */}}
{{- define "weir.settings" -}}
image: {{ include "weir.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
imagePullSecrets: {{ toJson .Values.imagePullSecrets }}
{{- with .Values.otlp }}
{{- if .endpoint }}
otlp:
  endpoint: {{ .endpoint | quote }}
  {{- with .protocol }}
  protocol: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}
env: {{ toJson .Values.proxy.extraEnv }}
options:
{{- range $name, $value := .Values.proxy.options }}
{{- /* Numbers pass Helm as floats: 19400 must not become 1.94e+04. */}}
  {{ $name }}: {{ ternary (printf "%.0f" (float64 (default 0 $value))) (toString $value) (and (kindIs "float64" $value) (eq $name "proxy-uid")) | quote }}
{{- end }}
{{- end -}}

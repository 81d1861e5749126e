{{- define "agenc.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "agenc.workerImage" -}}
{{- if .Values.proofWorkers.gpu.enabled -}}
{{ .Values.proofWorkers.gpu.image }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- else -}}
{{ include "agenc.image" . }}
{{- end }}
{{- end }}

{{/* The scheme of the coordinator's probes; nothing for plain HTTP. */}}
{{- define "agenc.scheme" -}}
{{- if .Values.tls.enabled -}}
scheme: HTTPS
{{- end }}
{{- end }}

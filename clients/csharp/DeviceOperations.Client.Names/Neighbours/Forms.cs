// System.Drawing.Common and Windows Forms: their public names alone, so that a collision shows where they are not installed.
namespace System.Drawing
{
    class Bitmap; class Brush; class Brushes; class BufferedGraphics; class BufferedGraphicsContext; class BufferedGraphicsManager; class CharacterRange; class ContentAlignment; class CopyPixelOperation; class Font; class FontConverter; class FontFamily; class Graphics; class GraphicsUnit; class IDeviceContext; class Icon; class IconConverter; class Image; class ImageAnimator; class ImageConverter; class ImageFormatConverter; class Pen; class Pens; class Region; class RotateFlipType; class SolidBrush; class StockIconId; class StockIconOptions; class StringAlignment; class StringDigitSubstitute; class StringFormat; class StringFormatFlags; class StringTrimming;
    class StringUnit; class SystemBrushes; class SystemFonts; class SystemIcons; class SystemPens; class TextureBrush; class ToolboxBitmapAttribute;
}

namespace System.Drawing.Drawing2D
{
    class AdjustableArrowCap; class Blend; class ColorBlend; class CombineMode; class CompositingMode; class CompositingQuality; class CoordinateSpace; class CustomLineCap; class DashCap; class DashStyle; class FillMode; class FlushIntention; class GraphicsContainer;
    class GraphicsPath; class GraphicsPathIterator; class GraphicsState; class HatchBrush; class HatchStyle; class InterpolationMode; class LineCap; class LineJoin; class LinearGradientBrush; class LinearGradientMode; class Matrix; class MatrixOrder; class PathData; class PathGradientBrush; class PathPointType; class PenAlignment; class PenType;
    class PixelOffsetMode; class QualityMode; class RegionData; class SmoothingMode; class WarpMode; class WrapMode;
}

namespace System.Drawing.Imaging
{
    class BitmapData; class ColorAdjustType; class ColorChannelFlag; class ColorMap; class ColorMapType; class ColorMatrix; class ColorMatrixFlag; class ColorMode; class ColorPalette;
    class EmfPlusRecordType; class EmfType; class Encoder; class EncoderParameter; class EncoderParameterValueType; class EncoderParameters; class EncoderValue; class FrameDimension; class GdiCompatibleImage; class ImageAttributes; class ImageCodecFlags;
    class ImageCodecInfo; class ImageFlags; class ImageFormat; class ImageLockMode; class MetaHeader; class Metafile; class MetafileFrameUnit; class MetafileHeader; class MetafileType; class PaletteFlags; class PaletteType; class PixelFormat; class PlayRecordCallback; class PropertyItem; class WmfPlaceableFileHeader;
}

namespace System.Drawing.Imaging.Effects
{
    class BlackSaturationCurveEffect; class BlurEffect; class BrightnessContrastEffect; class ColorBalanceEffect; class ColorCurveEffect; class ColorLookupTableEffect; class ColorMatrixEffect; class ContrastCurveEffect; class CurveChannel; class DensityCurveEffect;
    class Effect; class ExposureCurveEffect; class GrayScaleEffect; class HighlightCurveEffect;
    class InvertEffect; class LevelsEffect; class MidtoneCurveEffect; class SepiaEffect; class ShadowCurveEffect; class SharpenEffect; class TintEffect; class VividEffect; class WhiteSaturationCurveEffect;
}

namespace System.Drawing.Printing
{
    class Duplex; class InvalidPrinterException; class Margins; class PageSettings; class PaperKind; class PaperSize; class PaperSource; class PreviewPageInfo; class PreviewPrintController; class PrintAction; class PrintController; class PrintDocument; class PrintEventArgs; class PrintPageEventArgs; class PrintRange; class PrinterResolution; class PrinterResolutionKind; class PrinterSettings; class PrinterUnit; class QueryPageSettingsEventArgs; class StandardPrintController;
}

namespace System.Drawing.Text
{
    class FontCollection; class GenericFontFamilies; class HotkeyPrefix; class InstalledFontCollection; class PrivateFontCollection; class TextRenderingHint;
}

namespace System.Windows.Forms
{
    class AccessibleEvents; class AccessibleObject; class AccessibleRole; class AnchorStyles;
    class Appearance; class Application; class ApplicationContext; class ArrangeDirection; class AutoScaleMode; class AutoSizeMode; class BatteryChargeStatus; class Binding; class BindingContext; class BindingMemberInfo; class BindingNavigator; class BindingSource; class BootMode; class Border3DStyle; class BorderStyle; class Button; class ButtonBase; class ButtonState; class CharacterCasing; class CheckBox; class CheckState; class CheckedListBox;
    class Clipboard; class CloseReason; class ColorDepth; class ColorDialog; class ColumnHeader;
    class ComboBox; class CommonDialog; class ContainerControl; class ContextMenuStrip; class Control; class ControlStyles; class CreateParams; class Cursor; class Cursors; class DataFormats; class DataGridView; class DataGridViewCell; class DataGridViewColumn; class DataGridViewRow; class DataObject; class DateTimePicker; class Day; class DialogResult;
    class DockStyle; class DomainUpDown; class DragAction; class DragDropEffects; class DragEventArgs; class DrawItemState; class DrawMode; class ErrorBlinkStyle; class ErrorProvider; class FeatureSupport; class FileDialog; class FlatStyle; class FlowDirection;
    class FlowLayoutPanel; class FolderBrowserDialog; class FontDialog; class FormBorderStyle;
    class FormCollection; class FormStartPosition; class FormWindowState; class FrameStyle;
    class GridItem; class GridItemType; class GroupBox; class HScrollBar; class HScrollProperties; class Help; class HelpNavigator; class HelpProvider; class HorizontalAlignment; class IDataObject; class IFeatureSupport; class ImageLayout; class ImageList; class ImeMode; class InputLanguage; class ItemActivation; class ItemBoundsPortion; class KeyEventArgs; class KeyPressEventArgs; class Keys; class Label;
    class LayoutEventArgs; class LayoutSettings; class LeftRightAlignment; class LinkArea; class LinkBehavior; class LinkLabel; class ListBox; class ListControl; class ListView; class ListViewGroup; class ListViewItem; class MainMenuStrip; class MaskedTextBox; class MdiLayout; class MenuStrip; class MergeAction; class Message; class MessageBox; class MessageBoxButtons; class MessageBoxIcon; class MonthCalendar; class MouseButtons; class MouseEventArgs; class NativeWindow; class NotifyIcon; class NumericUpDown; class OSFeature;
    class OpenFileDialog; class Orientation; class OwnerDrawPropertyBag; class Padding; class PageSetupDialog; class PaintEventArgs; class Panel; class PictureBox; class PictureBoxSizeMode; class PopupEventArgs; class PowerLineStatus; class PowerState; class PowerStatus; class PreProcessControlState; class PrintDialog; class PrintPreviewControl;
    class PrintPreviewDialog; class ProfessionalColors; class ProgressBar; class ProgressBarStyle; class PropertyGrid; class PropertySort; class QueryContinueDragEventArgs;
    class RadioButton; class RichTextBox; class RightToLeft; class SaveFileDialog; class Screen;
    class ScreenOrientation; class ScrollBar; class ScrollBars; class ScrollEventArgs; class ScrollOrientation; class ScrollProperties; class SearchDirectionHint; class SecurityIDType;
    class SelectionMode; class SelectionRange; class SendKeys; class Shortcut; class SizeGripStyle; class SortOrder; class SplitContainer; class Splitter; class StatusStrip;
    class StructFormat; class SystemInformation; class TabAlignment; class TabControl; class TabPage; class TableLayoutPanel; class TaskDialog; class TaskDialogButton; class TaskDialogIcon; class TaskDialogPage; class TextBox; class TextBoxBase; class TextDataFormat; class TextFormatFlags; class TextImageRelation; class TextRenderer; class TickStyle; class Timer; class ToolStrip; class ToolStripButton; class ToolStripItem; class ToolTip; class ToolTipIcon; class TrackBar; class TreeNode; class TreeView; class UICues;
    class UpDownBase; class UserControl; class VScrollBar; class ValidationConstraints; class View; class WebBrowser;
}

namespace System.Windows.Forms
{
    // Members of a form stand before every type of the same name.
    abstract class Form
    {
        protected static int AutoSize, BackColor, Bounds, Capture, ClientSize, Container, Controls, Cursor, DataBindings;
        protected static int DesignMode, DialogResult, Dock, Enabled, Events, Font, Handle, Height, Icon, Location, Menu;
        protected static int Modal, Name, Opacity, Owner, Padding, Parent, Region, Site, Size, Tag, Text, Visible, Width;
    }
}
